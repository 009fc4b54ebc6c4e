import numpy as np
import pytest

from training.datasets import AudioDataset, Clip
from training.datasets.split import Split
from training.learning.checks import check_learnable
from training.learning.recipes import Recipe


def dataset(*clips):
    """A dataset of `(label, fold)` pairs."""
    labels = tuple(sorted({label for label, _ in clips}))
    entries = tuple(
        Clip(f"{label}{i}", labels.index(label), fold, f"{label}{i}", None, 1.0)
        for i, (label, fold) in enumerate(clips)
    )
    return AudioDataset("sounds", labels, entries, "CC0", "", read=lambda *_: np.zeros(1))


TWO = dataset(("dog", 1), ("dog", 2), ("dog", 3), ("rain", 1), ("rain", 2), ("rain", 3))


def test_one_label_is_refused():
    one = dataset(("dog", 1), ("dog", 2))
    with pytest.raises(ValueError, match=r"at least two labels .* Received: dog"):
        check_learnable(one, Split.of(one, 1), Recipe())


@pytest.mark.parametrize("targets", ["diagonal", "multi_positive"])
def test_batches_of_one_clip_are_refused_where_a_loss_compares_clips(targets):
    with pytest.raises(ValueError, match=f'targets="{targets}" .* batches of one clip'):
        check_learnable(TWO, Split.of(TWO, 1), Recipe(batch_size=1, targets=targets))
    few = dataset(("dog", 1), ("rain", 1), ("dog", 2))
    split = Split(1, None, np.array([2]), np.zeros(0, int), np.array([0, 1]))
    with pytest.raises(ValueError, match="batches of one clip"):
        check_learnable(few, split, Recipe(batch_size=32, targets=targets))
    recipe = Recipe(batch_size=1, targets="prototype")
    assert check_learnable(TWO, Split.of(TWO, 1), recipe) == []


def test_a_label_without_held_out_clips_is_a_warning():
    rare = dataset(("dog", 1), ("dog", 2), ("dog", 3), ("rain", 2), ("rain", 3), ("rain", 3))
    [warning] = check_learnable(rare, Split.of(rare, 1), Recipe())
    assert warning.startswith("the held-out fold has no clip of rain")
    [warning] = check_learnable(rare, Split.of(rare, 2, 1), Recipe())
    assert warning.startswith("the validation fold has no clip of rain")
    assert check_learnable(rare, Split.of(rare, 3), Recipe()) == []
    assert check_learnable(rare, Split.whole(rare), Recipe()) == []
