"""Aggregated results of finished runs over folds and seeds."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets import AudioDataset
from training.runs.evaluation import Predictions
from training.runs.jobs import FitProcess
from training.runs.run import RunError
from training.runs.tagging import load_predictions


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of repeated measurements.

    Args:
        mean: mean of the values.
        std: sample standard deviation; None for a single value.
        count: number of values.
    """

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Compute the spread of one or more values."""
        array = np.fromiter(values, np.float64)
        std = float(array.std(ddof=1)) if array.size > 1 else None
        return cls(float(array.mean()), std, array.size)

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean; None for a single value."""
        return None if self.std is None else self.std / math.sqrt(self.count)


@dataclass(frozen=True, eq=False)
class Results:
    """Finished runs, one for each combination of folds and seeds.

    Args:
        folds: held-out folds, (F,).
        seeds: seeds of the recipe, (S,).
        evaluations: predictions on the held-out fold, by fold and seed.
        figures: contents of `metrics.json`, by fold and seed.
    """

    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    evaluations: Mapping[tuple[int, int], Predictions]
    figures: Mapping[tuple[int, int], Mapping[str, Any]]

    @classmethod
    def read(cls, jobs: Mapping[tuple[int, int], FitProcess], dataset: AudioDataset) -> "Results":
        """Read the results of finished jobs.

        Args:
            jobs: jobs by fold and seed.
            dataset: dataset of their training.

        Raises:
            RunError: if the clips of a run's test differ from those of the dataset's fold.
        """
        evaluations = {key: load_predictions(job.run.predictions) for key, job in jobs.items()}
        for (fold, seed), evaluation in evaluations.items():
            if set(evaluation.names) != {clip.name for clip in dataset.clips if clip.fold == fold}:
                raise RunError(
                    f"{jobs[fold, seed].run.directory} was tested on different clips than "
                    f"{dataset.name} now contains; choose another directory with --out."
                )
        return cls(
            tuple(dict.fromkeys(fold for fold, _ in jobs)),
            tuple(dict.fromkeys(seed for _, seed in jobs)),
            evaluations,
            {key: json.loads(job.run.metrics.read_text()) for key, job in jobs.items()},
        )

    @property
    def measure(self) -> str:
        """Name of what the runs are compared by: accuracy, or mean average precision."""
        return next(iter(self.evaluations.values())).measure

    @property
    def key(self) -> str:
        """Key of the measure in `metrics.json`."""
        return next(iter(self.evaluations.values())).key

    @property
    def qualities(self) -> NDArray[np.float64]:
        """Measure of each seed and fold, (S, F)."""
        return np.array(
            [[self.evaluations[fold, seed].quality for fold in self.folds] for seed in self.seeds]
        )

    def over_seeds(self) -> Spread:
        """Return the spread over seeds of the mean over folds."""
        return Spread.of(self.qualities.mean(axis=1))

    def over_folds(self) -> Spread:
        """Return the spread over folds of the mean over seeds; folds are different clips."""
        return Spread.of(self.qualities.mean(axis=0))

    def difference(self, reference: "Results") -> Spread:
        """Return the spread of paired differences to runs of the same folds and seeds."""
        return Spread.of((self.qualities - reference.qualities).flat)

    def mean(self, figure: str) -> float:
        """Return the mean over all runs of a value in `metrics.json`."""
        return float(np.mean([figures[figure] for figures in self.figures.values()]))

    def pooled(self) -> Predictions:
        """Return the predictions of all runs together."""
        parts = list(self.evaluations.values())
        return type(parts[0]).pooled(parts)


def percent(values: Spread) -> str:
    """Format in percent: `85.3 ± 0.8`, or `85.3` for a single value."""
    text = f"{100 * values.mean:.1f}"
    return text if values.std is None else f"{text} ± {100 * values.std:.1f}"
