"""Comparison of finished runs and cross-validations."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.runs.markdown import table
from training.runs.results import Spread, percent
from training.runs.run import MEASURES, Run

_ABSENT = "-"


@dataclass(frozen=True)
class _Entry:
    """One row: the columns every run has, and its other settings by name."""

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
    """Compare finished runs in a Markdown table, with the settings that differ.

    Args:
        directories: directories of runs and cross-validations.

    Returns:
        Lines of the table, empty if nothing is finished; and the directories without a finished
        run or cross-validation.
    """
    by_directory = {directory: list(_entries(directory)) for directory in directories}
    entries = [entry for found in by_directory.values() for entry in found]
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
        [directory for directory, found in by_directory.items() if not found],
    )


def _entries(directory: Path) -> Iterable[_Entry]:
    """Yield a directory's run, or each protocol of its cross-validation, if finished."""
    run, summary = Run(directory), directory / "summary.json"
    if run.metrics.exists():
        config, figures = (json.loads(path.read_text()) for path in (run.config, run.metrics))
        yield _Entry(
            name=str(directory),
            dataset=config["dataset"],
            folds=str(config["fold"] or "none"),
            seeds=str(config["recipe"]["seed"]),
            protocol="validation" if config["validation_fold"] else "last",
            preset=config["recipe"]["preset"],
            accuracy=_accuracy(figures),
            training_seconds=figures["training_seconds"],
            parameters=sum(figures["parameters"].values()),
            settings=_flat(config),
        )
    elif summary.exists():
        summed = json.loads(summary.read_text())
        for protocol, figures in summed["protocols"].items():
            folds, seeds = figures["folds"], figures["seeds"]
            yield _Entry(
                name=str(directory),
                dataset=summed["dataset"],
                folds=", ".join(map(str, folds)),
                seeds=", ".join(map(str, seeds)),
                protocol=protocol,
                preset=summed["recipe"]["preset"],
                accuracy=_accuracy(figures, figures["std_over_seeds"], len(seeds)),
                training_seconds=figures["training_seconds"],
                parameters=sum(summed["parameters"].values()),
                settings=_flat(summed),
            )


def _accuracy(figures: Mapping[str, Any], std: float | None = None, count: int = 1) -> str:
    """Format the accuracy, or the mean average precision, of a run or several."""
    for key, unit in zip(MEASURES, ("", " mAP"), strict=True):
        if key in figures:
            return percent(Spread(figures[key], std, count)) + unit
    return _ABSENT


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten recipe, augmentation and weights, without preset and seed, which have columns."""
    settings = {
        **config["recipe"],
        **config["recipe"]["augmentation"],
        **{f"{part}_weights": path for part, path in config["weights"].items()},
    }
    return {k: v for k, v in settings.items() if k not in ("preset", "seed", "augmentation")}
