"""Trainings that would learn or measure nothing."""

from training.datasets import AudioDataset
from training.datasets.base import name_some
from training.datasets.split import Split
from training.learning.recipes import Recipe


def check_learnable(dataset: AudioDataset, split: Split, recipe: Recipe) -> list[str]:
    """Refuse a training that would learn nothing.

    Args:
        dataset: labelled clips.
        split: clips for training, validation and test.
        recipe: settings of the training.

    Returns:
        Warnings: labels that an accuracy would leave out.

    Raises:
        ValueError: if there is only one label, or the batches of a loss that compares the clips of
            a batch have one clip.
    """
    if len(dataset.labels) < 2:
        raise ValueError(
            f"{dataset.name} must have at least two labels to tell apart. "
            f"Received: {', '.join(dataset.labels)}. Add recordings of other sounds."
        )
    if recipe.targets != "prototype" and min(recipe.batch_size, len(split.train)) == 1:
        raise ValueError(
            f'targets="{recipe.targets}" compares the clips of a batch, and learns nothing from '
            "batches of one clip. Use a larger --batch-size or more training clips, or "
            "--targets prototype."
        )
    warnings = []
    for what, clips in (("held-out", split.test), ("validation", split.validation)):
        present = {dataset.clips[i].label for i in clips}
        absent = [label for i, label in enumerate(dataset.labels) if i not in present]
        if present and absent:
            warnings.append(
                f"the {what} fold has no clip of {name_some(absent)}: its accuracy says nothing "
                "about them"
            )
    return warnings
