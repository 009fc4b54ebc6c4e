"""What each clip of a dataset is for in one run."""

from dataclasses import dataclass

import numpy as np

from edge.types import IntArray
from training.datasets import AudioDataset


@dataclass(frozen=True, eq=False)
class Split:
    """Clips to train on, to choose the epoch by, and to test on; whole folds each.

    Args:
        fold: the fold held out for the test.
        validation_fold: the fold that chooses the epoch, if one does.
        train: indices into the dataset's clips, (n,).
        validation: likewise; empty without a validation fold.
        test: likewise.
    """

    fold: int
    validation_fold: int | None
    train: IntArray
    validation: IntArray
    test: IntArray

    @property
    def watched(self) -> IntArray:
        """Clips whose accuracy is drawn after each epoch; none where no clip is left out."""
        return self.test if self.validation_fold is None else self.validation

    @classmethod
    def whole(cls, dataset: AudioDataset) -> "Split":
        """Train on every clip: fold 0 is held out, which there is not."""
        none = np.zeros(0, np.int64)
        return cls(0, None, np.arange(len(dataset.clips), dtype=np.int64), none, none)

    @classmethod
    def of(cls, dataset: AudioDataset, fold: int, validation_fold: int | None = None) -> "Split":
        """Hold out a fold, and take another one out of training.

        Args:
            dataset: labelled clips.
            fold: one of its folds.
            validation_fold: another one; a third must be left to train on.

        Raises:
            ValueError: if there is no such fold, or nothing would be left to train on.
        """
        train, test = dataset.split(fold)
        if validation_fold is None:
            return cls(fold, None, train, np.zeros(0, np.int64), test)
        others = [other for other in dataset.folds if other != fold]
        if validation_fold not in others or len(others) < 2:
            raise ValueError(
                "`validation_fold` must be one of the folds that are not held out, and leave "
                f"another to train on; of {others}. Received: {validation_fold}."
            )
        rest, validation = dataset.split(validation_fold)
        return cls(fold, validation_fold, np.setdiff1d(rest, test), validation, test)
