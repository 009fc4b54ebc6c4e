"""What is shipped, and by which recipe: one entry a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from edge.events.policy import Policy
from edge.inference.bundle import Quantization
from training.datasets import Clip
from training.datasets.esc import load_others
from training.learning.recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Shipment:
    """A model to be made on all clips of a dataset.

    Args:
        name: of its files.
        dataset: a key of `DATASETS`.
        recipe: how it is trained.
        others: `(data_dir, progress)` to clips of sounds that it does not know, with their
            categories: they choose its thresholds and count its false accepts, and are not learned.
        credits: CSV of the recordings' authors, titles and licences.
        licence: of the dataset in words that a card can cite.
        quantization: of the bundle.
        most_bytes: the largest bundle that may be shipped.
        policy: what counts as an event, but for the thresholds.
        hop_seconds: time between windows that the thresholds are chosen for.
        false_accepts_per_hour: most that the half of the other sounds may give which chooses the
            thresholds, see `training.release.measure.choose`.
    """

    name: str
    dataset: str
    recipe: Recipe
    others: Callable[[Path | None, bool], list[tuple[str, Clip]]]
    credits: Path
    licence: str
    quantization: Quantization = "dynamic_int8"
    most_bytes: int = 6_000_000
    policy: Policy = field(default_factory=Policy)
    hop_seconds: float = 1.0
    false_accepts_per_hour: float = 20.0


SHIPMENTS: Mapping[str, Shipment] = MappingProxyType(
    {
        "esc10-small": Shipment(
            name="esc10-small",
            dataset="esc10",
            recipe=replace(RECIPES["scratch"], precision="mixed_bfloat16"),
            others=load_others,
            credits=Path(__file__).with_name("esc10_sources.csv"),
            licence="CC BY 3.0, https://creativecommons.org/licenses/by/3.0/",
            # As many windows as overlap each other: of 3, 5, 6 and 7 the most sounds are heard
            # at the same number of false accepts.
            policy=Policy(smoothing_windows=5),
        )
    }
)
