"""Predictions on clips with several labels or none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.types import FloatArray, IntArray
from training.runs.evaluation import Evaluation, Predictions

# A label with a score of at least this counts as predicted.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Tally:
    """How often a label is predicted.

    Args:
        clips: clips with the label.
        found: those for which it is predicted.
        predicted: clips for which it is predicted.
    """

    clips: int
    found: int
    predicted: int

    @property
    def precision(self) -> float:
        """Share of the predictions that are right; 0 without any."""
        return self.found / max(1, self.predicted)

    @property
    def recall(self) -> float:
        """Share of the label's clips that are found; 0 without any."""
        return self.found / max(1, self.clips)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.found / max(1, self.predicted + self.clips)


@dataclass(frozen=True, eq=False)
class Tagging(Predictions):
    """Predictions of independent labels.

    Args:
        labels: label names, (K,).
        names: name of each clip, (n,).
        truth: 1 for each label of a clip, 0 for the others, (n, K).
        probabilities: float32 probability of each label, (n, K). A row with a NaN or an infinity
            predicts nothing.
    """

    measure = "mean average precision"
    class_measure = "F1"

    @property
    def scores(self) -> FloatArray:
        """The probabilities, with zeros for rows that are not finite, (n, K)."""
        finite = np.isfinite(self.probabilities).all(axis=1, keepdims=True)
        return np.where(finite, self.probabilities, np.float32(0))

    @property
    def quality(self) -> float:
        """Mean of the labels' average precisions."""
        return float(np.mean(list(self.average_precisions().values())))

    def average_precisions(self) -> dict[str, float]:
        """Return the average precision of each label that has clips."""
        columns = zip(self.labels, self.truth.T, self.scores.T, strict=True)
        return {
            label: average_precision(truth, scores)
            for label, truth, scores in columns
            if truth.any()
        }

    def tallies(self) -> dict[str, Tally]:
        """Return how often each label that has clips is predicted."""
        predicted, truth = self.scores >= THRESHOLD, self.truth > 0
        counts = zip(truth.sum(0), (truth & predicted).sum(0), predicted.sum(0), strict=True)
        tallies = (Tally(*map(int, count)) for count in counts)
        return {
            label: tally for label, tally in zip(self.labels, tallies, strict=True) if tally.clips
        }

    def per_class(self) -> dict[str, float]:
        """Return the F1 of each label that has clips."""
        return {label: tally.f1 for label, tally in self.tallies().items()}

    def figures(self) -> dict[str, dict[str, float]]:
        """Return the entries of `metrics.json` by class."""
        return {**super().figures(), "per_class_average_precision": self.average_precisions()}

    def judged(self) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return each score of each clip, and whether the clip has the label, (n * K,)."""
        return self.scores.ravel(), self.truth.ravel() > 0

    def mistakes(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Return name, missed labels and wrongly predicted labels of each wrong clip."""
        predicted, truth = self.scores >= THRESHOLD, self.truth > 0
        return [
            (name, self._chosen(has & ~gets), self._chosen(gets & ~has))
            for name, has, gets in zip(self.names, truth, predicted, strict=True)
            if (has != gets).any()
        ]

    def _chosen(self, chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(label for label, has in zip(self.labels, chosen, strict=True) if has)


def average_precision(truth: npt.NDArray[Any], scores: FloatArray) -> float:
    """Return the mean precision over the hits of a ranking, equal scores being one rank.

    Args:
        truth: 1 or 0 of each item, (n,); at least one 1.
        scores: score of each item, (n,).

    Source: Zhu 2004, "Recall, precision and average precision".
    """
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(truth[order])[is_last]
    precision = hits / (np.flatnonzero(is_last) + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / hits[-1])


def predictions_of(
    labels: tuple[str, ...], names: tuple[str, ...], truth: IntArray, probabilities: FloatArray
) -> Predictions:
    """Return the predictions of clips with one label each, (n,), or with several, (n, K)."""
    kind = Evaluation if truth.ndim == 1 else Tagging
    return kind(labels, names, truth, probabilities)


def load_predictions(path: Path) -> Predictions:
    """Read a file that `Predictions.save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        kind: type[Predictions] = Evaluation if file["truth"].ndim == 1 else Tagging
    return kind.load(path)
