"""Division of a dataset's clips into training, validation and test clips."""

from dataclasses import dataclass

import numpy as np

from edge.types import IntArray
from training.datasets import AudioDataset
from training.datasets.base import name_some

# Fold of a split that holds out none.
NO_FOLD = 0


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test clips of one run, each made of complete folds.

    Args:
        fold: test fold; `NO_FOLD` if no fold is held out.
        validation_fold: fold used to choose the epoch, if any.
        train: indices of the training clips, (n,), int64.
        validation: indices of the validation clips, (n,), int64; empty without a validation fold.
        test: indices of the test clips, (n,), int64.
    """

    fold: int
    validation_fold: int | None
    train: IntArray
    validation: IntArray
    test: IntArray

    @property
    def watched(self) -> IntArray:
        """Clips whose accuracy is measured after each epoch; empty if no clip is held out."""
        return self.test if self.validation_fold is None else self.validation

    @classmethod
    def whole(cls, dataset: AudioDataset) -> "Split":
        """Train on every clip; no fold is held out."""
        none = np.zeros(0, np.int64)
        return cls(NO_FOLD, None, np.arange(len(dataset.clips), dtype=np.int64), none, none)

    @classmethod
    def of(cls, dataset: AudioDataset, fold: int, validation_fold: int | None = None) -> "Split":
        """Hold out a test fold and, optionally, a validation fold.

        Args:
            dataset: dataset with folds.
            fold: test fold.
            validation_fold: another fold; at least one more must remain for training.

        Raises:
            ValueError: if a fold does not exist, or no fold, or no clip of a label, remains for
                training, or no held-out clip of a fold has a label.
        """
        train, test = dataset.split(fold)
        _check_testable(dataset, fold, test)
        if validation_fold is None:
            _check_labels(dataset, train)
            return cls(fold, None, train, np.zeros(0, np.int64), test)
        others = [other for other in dataset.folds if other != fold]
        if validation_fold not in others or len(others) < 2:
            raise ValueError(
                "`validation_fold` must be one of the folds that are not held out, with "
                f"another left for training, of {others}. Received: {validation_fold}."
            )
        rest, validation = dataset.split(validation_fold)
        _check_testable(dataset, validation_fold, validation)
        train = np.setdiff1d(rest, test)
        _check_labels(dataset, train)
        return cls(fold, validation_fold, train, validation, test)


def _check_testable(dataset: AudioDataset, fold: int, held_out: IntArray) -> None:
    """Reject a fold whose clips have no label, with which nothing can be found."""
    if not any(dataset.clips[i].labels for i in held_out):
        raise ValueError(
            f"A held-out fold must have clips with a label. Fold {fold} has none. Choose another, "
            "or list the folds in a CSV file."
        )


def _check_labels(dataset: AudioDataset, train: IntArray) -> None:
    """Reject training clips that lack a label."""
    trained = {label for i in train for label in dataset.clips[i].labels}
    if absent := [text for label, text in enumerate(dataset.labels) if label not in trained]:
        raise ValueError(
            f"Clips of each label must remain for training. Only held out: {name_some(absent)}. "
            "Choose other folds, or spread these labels over more of them."
        )
