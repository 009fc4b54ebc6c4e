"""Finished runs and cross-validations side by side."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.runs.markdown import table
from training.runs.results import Spread, percent
from training.runs.run import Run

_ABSENT = "-"


@dataclass(frozen=True)
class _Entry:
    """One row: what every run has, and its other settings by name."""

    name: str
    dataset: str
    folds: str
    seeds: str
    protocol: str
    preset: str
    accuracy: str
    training_seconds: float
    parameters: int
    settings: Mapping[str, Any]


def compare(directories: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """A Markdown table with the settings that differ.

    Args:
        directories: of runs and of cross-validations.

    Returns:
        Lines of the table, none if there is nothing to compare; and the directories that hold
        nothing finished.
    """
    found = {directory: list(_entries(directory)) for directory in directories}
    entries = [entry for several in found.values() for entry in several]
    names = dict.fromkeys(name for entry in entries for name in entry.settings)
    differing = [
        name
        for name in names
        if len({str(entry.settings.get(name, _ABSENT)) for entry in entries}) > 1
    ]
    header = ("run", "dataset", "folds", "seeds", "protocol", "preset", *differing)
    rows = [
        (
            *(entry.name, entry.dataset, entry.folds, entry.seeds, entry.protocol, entry.preset),
            *(str(entry.settings.get(name, _ABSENT)) for name in differing),
            entry.accuracy,
            f"{entry.training_seconds:.0f}",
            f"{entry.parameters:,}",
        )
        for entry in entries
    ]
    return (
        table((*header, "accuracy in %", "training s a run", "parameters"), rows) if rows else [],
        [directory for directory, several in found.items() if not several],
    )


def _entries(directory: Path) -> Iterable[_Entry]:
    """What a directory holds: a run, the protocols of a cross-validation, or nothing."""
    run, summary = Run(directory), directory / "summary.json"
    if run.metrics.exists():
        config, figures = (json.loads(path.read_text()) for path in (run.config, run.metrics))
        yield _Entry(
            name=str(directory),
            dataset=config["dataset"],
            folds=str(config["fold"]),
            seeds=str(config["recipe"]["seed"]),
            protocol="validation" if config["validation_fold"] else "last",
            preset=config["recipe"]["preset"],
            accuracy=f"{100 * figures['accuracy']:.1f}",
            training_seconds=figures["training_seconds"],
            parameters=sum(figures["parameters"].values()),
            settings=_flat(config),
        )
    elif summary.exists():
        summed = json.loads(summary.read_text())
        for protocol, figures in summed["protocols"].items():
            folds, seeds = figures["folds"], figures["seeds"]
            spread = Spread(figures["accuracy"], figures["std_over_seeds"], len(seeds))
            yield _Entry(
                name=str(directory),
                dataset=summed["dataset"],
                folds=", ".join(map(str, folds)),
                seeds=", ".join(map(str, seeds)),
                protocol=protocol,
                preset=summed["recipe"]["preset"],
                accuracy=percent(spread),
                training_seconds=figures["training_seconds"],
                parameters=sum(summed["parameters"].values()),
                settings=_flat(summed),
            )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe, its augmentation and weights by name; preset and seed have columns."""
    settings = {
        **config["recipe"],
        **config["recipe"]["augmentation"],
        **{f"{part}_weights": path for part, path in config["weights"].items()},
    }
    return {k: v for k, v in settings.items() if k not in ("preset", "seed", "augmentation")}
