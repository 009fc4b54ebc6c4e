"""Figures of a classifier on held-out clips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions on held-out clips beside the truth.

    Args:
        labels: class names.
        truth: (n,) label of each clip.
        probabilities: (n, K).
    """

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Most probable label of each clip, (n,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of clips whose most probable label is right."""
        return float(np.mean(self.predicted == self.truth))

    def confusion(self) -> NDArray[np.int64]:
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

    def mistakes(self, names: Sequence[str]) -> list[tuple[str, str, str, float]]:
        """Each wrong clip: its name, its label, the label given, and that label's probability."""
        wrong = np.flatnonzero(self.predicted != self.truth).tolist()
        return [
            (
                names[i],
                self.labels[self.truth[i]],
                self.labels[self.predicted[i]],
                float(self.probabilities[i].max()),
            )
            for i in wrong
        ]
