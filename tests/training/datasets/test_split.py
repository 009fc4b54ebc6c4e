from dataclasses import replace

import numpy as np
import pytest

from training.datasets import AudioDataset, Clip
from training.datasets.split import Split


@pytest.fixture
def dataset():
    """Two clips in each of the folds 1, 2 and 4."""
    clips = tuple(
        Clip(f"{fold}-{label}", label, fold, f"{fold}-{label}", None, 1.0)
        for label in (0, 1)
        for fold in (1, 2, 4)
    )
    return AudioDataset("sounds", ("dog", "cat"), clips, "CC0", "", read=lambda *_: np.zeros(1))


def folds(dataset, clips):
    return {dataset.clips[i].fold for i in clips}


def test_no_clip_has_two_roles(dataset):
    split = Split.of(dataset, 1, 2)
    parts = (split.train, split.validation, split.test)
    assert [folds(dataset, part) for part in parts] == [{4}, {2}, {1}]
    assert sorted(np.concatenate(parts)) == list(range(len(dataset.clips)))
    assert split.watched is split.validation


def test_without_a_validation_fold_the_test_is_watched(dataset):
    split = Split.of(dataset, 4)
    assert (folds(dataset, split.train), folds(dataset, split.test)) == ({1, 2}, {4})
    assert split.validation.size == 0
    assert split.watched is split.test


def test_the_whole_dataset_leaves_nothing_to_watch(dataset):
    split = Split.whole(dataset)
    assert split.train.tolist() == list(range(len(dataset.clips)))
    assert split.test.size == split.watched.size == 0


@pytest.mark.parametrize("validation_fold", [1, 3, 9])
def test_a_validation_fold_is_another_fold(dataset, validation_fold):
    with pytest.raises(ValueError, match="must be one of the folds that are not held out"):
        Split.of(dataset, 1, validation_fold)


def test_a_validation_fold_leaves_a_fold_to_train_on():
    clips = tuple(
        Clip(f"{fold}-{label}", label, fold, f"{fold}-{label}", None, 1.0)
        for fold in (1, 2)
        for label in (0, 1)
    )
    dataset = AudioDataset("sounds", ("dog", "cat"), clips, "CC0", "", read=lambda *_: np.zeros(1))
    with pytest.raises(ValueError, match="another left for training"):
        Split.of(dataset, 1, 2)


def test_the_held_out_fold_exists(dataset):
    with pytest.raises(ValueError, match="`fold` must be one of"):
        Split.of(dataset, 3)


@pytest.mark.parametrize(("fold", "validation_fold"), [(2, None), (2, 1), (1, 2)])
def test_each_label_remains_for_training(dataset, fold, validation_fold):
    cats_in = {1, 2} if validation_fold else {2}
    clips = tuple(clip for clip in dataset.clips if clip.label == 0 or clip.fold in cats_in)
    dataset = replace(dataset, clips=clips)
    with pytest.raises(ValueError, match=r"must remain for training. Only held out: cat"):
        Split.of(dataset, fold, validation_fold)
    assert Split.of(dataset, 4).train.size


@pytest.mark.parametrize(("fold", "validation_fold"), [(2, None), (1, 2)])
def test_a_held_out_fold_has_clips_with_a_label(dataset, fold, validation_fold):
    clips = [replace(clip, label=() if clip.fold == 2 else (clip.label,)) for clip in dataset.clips]
    dataset = replace(dataset, clips=tuple(clips))
    with pytest.raises(ValueError, match=r"must have clips with a label\. Fold 2 has none"):
        Split.of(dataset, fold, validation_fold)
    assert Split.of(dataset, 1).test.size
