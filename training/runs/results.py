"""What finished runs over folds and seeds say together."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets import AudioDataset
from training.runs.evaluation import Evaluation
from training.runs.jobs import FitProcess
from training.runs.run import RunError


@dataclass(frozen=True)
class Spread:
    """Mean of repeated figures and how much they differ.

    Args:
        mean: of the figures.
        std: their standard deviation, of the sample; None of a single one.
        count: how many.
    """

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Mean and standard deviation of one or more values."""
        array = np.fromiter(values, np.float64)
        std = float(array.std(ddof=1)) if array.size > 1 else None
        return cls(float(array.mean()), std, array.size)

    @property
    def standard_error(self) -> float | None:
        """Of the mean."""
        return None if self.std is None else self.std / math.sqrt(self.count)


@dataclass(frozen=True, eq=False)
class Results:
    """Finished runs, one for each of some folds and seeds.

    Args:
        folds: the folds held out, F.
        seeds: seeds of the recipe, S.
        evaluations: predictions on the held-out fold, by fold and seed.
        figures: what `metrics.json` holds, by fold and seed.
    """

    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    evaluations: Mapping[tuple[int, int], Evaluation]
    figures: Mapping[tuple[int, int], Mapping[str, Any]]

    @classmethod
    def read(cls, jobs: Mapping[tuple[int, int], FitProcess], dataset: AudioDataset) -> "Results":
        """Read what finished jobs left.

        Args:
            jobs: by fold and seed.
            dataset: what they were trained on.

        Raises:
            RunError: if a run was tested on other clips than the dataset's fold holds.
        """
        evaluations = {key: Evaluation.load(job.run.predictions) for key, job in jobs.items()}
        for (fold, seed), evaluation in evaluations.items():
            if set(evaluation.names) != {clip.name for clip in dataset.clips if clip.fold == fold}:
                raise RunError(
                    f"{jobs[fold, seed].run.directory} was tested on other clips than "
                    f"{dataset.name} holds now; choose another directory with --out."
                )
        return cls(
            tuple(dict.fromkeys(fold for fold, _ in jobs)),
            tuple(dict.fromkeys(seed for _, seed in jobs)),
            evaluations,
            {key: json.loads(job.run.metrics.read_text()) for key, job in jobs.items()},
        )

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Of each seed and fold, (S, F)."""
        return np.array(
            [[self.evaluations[fold, seed].accuracy for fold in self.folds] for seed in self.seeds]
        )

    def over_seeds(self) -> Spread:
        """Mean over folds, repeated with each seed."""
        return Spread.of(self.accuracies.mean(axis=1))

    def over_folds(self) -> Spread:
        """Mean over seeds, of each fold: different clips, not repetitions."""
        return Spread.of(self.accuracies.mean(axis=0))

    def difference(self, reference: "Results") -> Spread:
        """How much higher the accuracy is than another's with the same folds and seeds."""
        return Spread.of((self.accuracies - reference.accuracies).flat)

    def mean(self, figure: str) -> float:
        """Mean over all runs of a number that `metrics.json` holds."""
        return float(np.mean([figures[figure] for figures in self.figures.values()]))

    def pooled(self) -> Evaluation:
        """Predictions of all runs together."""
        return Evaluation.pooled(list(self.evaluations.values()))


def percent(values: Spread) -> str:
    """`85.3 ± 0.8`, or `85.3` of a single figure."""
    text = f"{100 * values.mean:.1f}"
    return text if values.std is None else f"{text} ± {100 * values.std:.1f}"
