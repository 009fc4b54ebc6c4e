"""Trainings that would learn nothing."""

from semanticac_keras.losses import BATCH_TARGETS
from training.datasets.split import Split
from training.learning.recipes import Recipe


def check_learnable(split: Split, recipe: Recipe) -> None:
    """Refuse a training that would learn nothing.

    Args:
        split: clips for training, validation and test.
        recipe: settings of the training.

    Raises:
        ValueError: if the batches of a loss that compares the clips of a batch have one clip.
    """
    if recipe.targets in BATCH_TARGETS and min(recipe.batch_size, len(split.train)) == 1:
        raise ValueError(
            f'targets="{recipe.targets}" compares the clips of a batch, and learns nothing from '
            "batches of one clip. Use a larger --batch-size or more training clips, or "
            "--targets prototype or sigmoid."
        )
