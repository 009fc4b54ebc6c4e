"""Packaged models and their recipes."""

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
    """Packaged model, trained on all clips of a dataset.

    Args:
        name: base name of its files.
        dataset: key of `DATASETS`.
        recipe: of the training.
        others: maps `(data_dir, progress)` to pairs of category and clip, for sounds outside the
            model's classes. They determine thresholds and false accepts and are not trained on.
        credits: CSV of the recordings' authors, titles and licences.
        licence: of the dataset, as quoted in the card.
        quantization: of the bundle.
        most_bytes: maximum size of the bundle.
        policy: decision settings, except the thresholds.
        hop_seconds: time between windows for which the thresholds are chosen.
        false_accepts_per_hour: maximum rate on the other sounds used to choose the thresholds,
            see `training.release.measure.choose`.
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
            # As many windows as overlap: compared with 3, 6 and 7, this reports the most sounds at
            # the same number of false accepts.
            policy=Policy(smoothing_windows=5),
        )
    }
)
