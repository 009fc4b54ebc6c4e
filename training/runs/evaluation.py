"""Figures of a classifier on held-out clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.files import replacing
from edge.types import FloatArray, IntArray

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class ConfidenceBin:
    """Clips whose highest probability lies in one range.

    Args:
        low: lower end of the range, exclusive.
        high: upper end, inclusive.
        clips: how many.
        confidence: their mean highest probability; 0 without clips.
        accuracy: share of them that is right; 0 without clips.
    """

    low: float
    high: float
    clips: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions on held-out clips beside the truth.

    Args:
        labels: class names.
        names: (n,) name of each clip.
        truth: (n,) label of each clip.
        probabilities: (n, K).
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    truth: IntArray
    probabilities: FloatArray

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            labels, names = (tuple(file[key].tolist()) for key in ("labels", "names"))
            return cls(labels, names, file["truth"], file["probabilities"])

    @classmethod
    def pooled(cls, parts: Sequence["Evaluation"]) -> "Evaluation":
        """All clips of several evaluations; a clip that several have counts as often.

        Args:
            parts: one or more, of the same labels.
        """
        return cls(
            parts[0].labels,
            tuple(name for part in parts for name in part.names),
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
        )

    def save(self, path: Path) -> None:
        """Write labels, names, truth and probabilities as `.npz`."""
        with replacing(path) as temporary:
            np.savez_compressed(
                temporary,
                labels=np.array(self.labels),
                names=np.array(self.names),
                truth=self.truth,
                probabilities=self.probabilities,
            )

    @property
    def predicted(self) -> IntArray:
        """Most probable label of each clip, (n,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of clips whose most probable label is right."""
        return float(np.mean(self.predicted == self.truth))

    def confusion(self) -> IntArray:
        """Counts, (K true, K predicted)."""
        counts = np.zeros((len(self.labels),) * 2, np.int64)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts

    def per_class(self) -> dict[str, float]:
        """Accuracy on the clips of each class that has any."""
        counts = self.confusion()
        return {
            label: float(counts[i, i] / counts[i].sum())
            for i, label in enumerate(self.labels)
            if counts[i].sum()
        }

    def mistakes(self) -> list[tuple[str, str, str, float]]:
        """Each wrong clip: its name, its label, the label given, and that label's probability."""
        wrong = np.flatnonzero(self.predicted != self.truth).tolist()
        return [
            (
                self.names[i],
                self.labels[self.truth[i]],
                self.labels[self.predicted[i]],
                float(self.probabilities[i].max()),
            )
            for i in wrong
        ]

    def hardest_pairs(self, limit: int = 10) -> list[tuple[str, str, int, int]]:
        """Labels most often taken for another: the label, the other, how often, of how many clips.

        Args:
            limit: most pairs to return.
        """
        counts = self.confusion()
        clips = counts.sum(axis=1)
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[:limit]
        pairs = [divmod(int(i), len(self.labels)) for i in order if counts.flat[i]]
        return [
            (self.labels[i], self.labels[j], int(counts[i, j]), int(clips[i])) for i, j in pairs
        ]

    def confidence_bins(self) -> list[ConfidenceBin]:
        """Clips by their highest probability, in bins of equal width."""
        confidence, right = self.probabilities.max(axis=1), self.predicted == self.truth
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
                    accuracy=float(right[inside].mean()) if clips else 0.0,
                )
            )
        return bins

    def calibration_error(self) -> float:
        """Expected calibration error: mean gap between a bin's confidence and its accuracy,
        weighted by its clips.

        Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.
        """
        gaps = [bin.clips * abs(bin.accuracy - bin.confidence) for bin in self.confidence_bins()]
        return sum(gaps) / len(self.truth)
