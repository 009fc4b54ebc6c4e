"""Predictions on held-out clips, and their metrics."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from edge.types import FloatArray, IntArray
from training.runs.files import writing

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class ConfidenceBin:
    """Predictions with their confidence in one range.

    Args:
        low: lower end of the range, exclusive.
        high: upper end of the range, inclusive.
        clips: number of predictions: one a clip, or one a clip and label if labels are independent.
        confidence: their mean confidence; 0 if there are none.
        accuracy: share of correct ones; 0 if there are none.
    """

    low: float
    high: float
    clips: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Predictions(ABC):
    """Predictions on held-out clips, with the true labels.

    Attributes:
        measure: name of `quality`.
        class_measure: name of the values of `per_class`.
    """

    measure: ClassVar[str]
    class_measure: ClassVar[str]

    labels: tuple[str, ...]
    names: tuple[str, ...]
    truth: IntArray
    probabilities: FloatArray

    @property
    @abstractmethod
    def quality(self) -> float:
        """The measure by which trainings are compared, 0 to 1."""

    @abstractmethod
    def per_class(self) -> dict[str, float]:
        """Return a measure of each class that has clips, 0 to 1."""

    @abstractmethod
    def judged(self) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return the confidence of each prediction, and whether it is right, (m,) each."""

    @property
    def key(self) -> str:
        """Key of `quality` in `metrics.json` and in the history."""
        return self.measure.replace(" ", "_")

    def figures(self) -> dict[str, dict[str, float]]:
        """Return the entries of `metrics.json` by class."""
        return {f"per_class_{self.class_measure.lower()}": self.per_class()}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            labels, names = (tuple(file[key].tolist()) for key in ("labels", "names"))
            return cls(labels, names, file["truth"], file["probabilities"])

    @classmethod
    def pooled(cls, parts: Sequence["Predictions"]) -> Self:
        """Concatenate predictions; a clip in several of them counts several times.

        Args:
            parts: one or more of this class, with the same labels.
        """
        return cls(
            parts[0].labels,
            tuple(name for part in parts for name in part.names),
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
        )

    def save(self, path: Path) -> None:
        """Write labels, names, truth and probabilities as `.npz`."""
        with writing(path) as temporary:
            np.savez_compressed(
                temporary,
                labels=np.array(self.labels),
                names=np.array(self.names),
                truth=self.truth,
                probabilities=self.probabilities,
            )

    def confidence_bins(self) -> list[ConfidenceBin]:
        """Group the predictions by their confidence, in bins of equal width."""
        confidence, correct = self.judged()
        index = np.clip(np.ceil(confidence * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1)
        bins = []
        for i in range(CALIBRATION_BINS):
            inside = index == i
            clips = int(inside.sum())
            bins.append(
                ConfidenceBin(
                    low=i / CALIBRATION_BINS,
                    high=(i + 1) / CALIBRATION_BINS,
                    clips=clips,
                    confidence=float(confidence[inside].mean()) if clips else 0.0,
                    accuracy=float(correct[inside].mean()) if clips else 0.0,
                )
            )
        return bins

    def calibration_error(self) -> float:
        """Return the expected calibration error.

        This is the mean gap between confidence and accuracy of the bins, weighted by their sizes.

        Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.
        """
        bins = self.confidence_bins()
        gaps = [bin.clips * abs(bin.accuracy - bin.confidence) for bin in bins]
        return sum(gaps) / sum(bin.clips for bin in bins)


@dataclass(frozen=True, eq=False)
class Evaluation(Predictions):
    """Predictions on clips with one label each.

    Args:
        labels: class names, (K,).
        names: name of each clip, (n,).
        truth: integer label of each clip, (n,).
        probabilities: float32 probabilities, (n, K). A row with a NaN or an infinity predicts
            nothing: it is a miss, with a confidence of 1.
    """

    measure = "accuracy"
    class_measure = "accuracy"

    @property
    def quality(self) -> float:
        """The accuracy."""
        return self.accuracy

    def judged(self) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return the highest probability of each clip, and whether its label is right."""
        return self.confidence, self.predicted == self.truth

    @property
    def predicted(self) -> IntArray:
        """Most probable label of each clip, (n,); -1 where a row is not finite."""
        finite = np.isfinite(self.probabilities).all(axis=1)
        return np.where(finite, self.probabilities.argmax(axis=1), -1)

    @property
    def confidence(self) -> FloatArray:
        """Highest probability of each clip, (n,)."""
        return np.where(self.predicted < 0, np.float32(1), self.probabilities.max(axis=1))

    @property
    def accuracy(self) -> float:
        """Share of clips classified correctly."""
        return float(np.mean(self.predicted == self.truth))

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy, if the clips are independent (binomial)."""
        share = self.accuracy
        return float(np.sqrt(share * (1 - share) / len(self.truth)))

    def confusion(self) -> IntArray:
        """Return the confusion matrix: counts (K, K) by true and predicted label.

        Rows that are not finite are in no column.
        """
        counts = np.zeros((len(self.labels),) * 2, np.int64)
        predicted = self.predicted
        predicts = predicted >= 0
        np.add.at(counts, (self.truth[predicts], predicted[predicts]), 1)
        return counts

    def _clips_per_class(self) -> IntArray:
        return np.bincount(self.truth, minlength=len(self.labels))

    def per_class(self) -> dict[str, float]:
        """Return the accuracy on each class that has clips."""
        counts, clips = self.confusion(), self._clips_per_class()
        return {
            label: float(counts[i, i] / clips[i]) for i, label in enumerate(self.labels) if clips[i]
        }

    def mistakes(self) -> list[tuple[str, str, str, float]]:
        """Return name, true label, predicted label and its probability of each wrong clip."""
        predicted = self.predicted
        wrong = np.flatnonzero(predicted != self.truth).tolist()
        return [
            (
                self.names[i],
                self.labels[self.truth[i]],
                self.labels[predicted[i]] if predicted[i] >= 0 else "nothing: not finite",
                float(self.probabilities[i].max()),
            )
            for i in wrong
        ]

    def hardest_pairs(self, limit: int = 10) -> list[tuple[str, str, int, int]]:
        """Return the most frequent confusions.

        Args:
            limit: largest number of pairs.

        Returns:
            True label, predicted label, number of confusions, and clips of the true label.
        """
        counts, clips = self.confusion(), self._clips_per_class()
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[:limit]
        pairs = [divmod(int(i), len(self.labels)) for i in order if counts.flat[i]]
        return [
            (self.labels[i], self.labels[j], int(counts[i, j]), int(clips[i])) for i, j in pairs
        ]
