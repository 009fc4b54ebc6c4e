"""Crops and their targets."""

import numpy as np
import pytest

from tests.micro import PRESET
from training.pretraining.batches import CropBatches, Mixing, crop_of
from training.pretraining.spectra import Surroundings, to_power

FRONT_END = PRESET.front_end


def test_a_crop_has_the_frames_and_windows_of_its_time(targets) -> None:
    heard, start = targets[0], 2 * targets.grid.hop_frames
    crop = crop_of([targets], 0, start, FRONT_END)
    (answers,) = crop.answers
    np.testing.assert_array_equal(
        crop.power, to_power(heard.log_mels[start : start + FRONT_END.num_frames])
    )
    np.testing.assert_array_equal(answers.scores, heard.scores[2 : 2 + len(answers.scores)])
    assert answers.heard.all()


def test_a_short_recording_lies_in_silence(targets) -> None:
    hop_frames = targets.grid.hop_frames
    crop = crop_of([targets], 1, -hop_frames, FRONT_END)
    (answers,) = crop.answers
    assert not crop.power[:hop_frames].any()
    assert crop.power[hop_frames].any()
    assert answers.heard.tolist() == [0.0, 1.0, *[0.0] * (len(answers.heard) - 2)]
    np.testing.assert_array_equal(answers.embeddings[1], targets[1].embeddings[0])


def test_batches_depend_on_seed_and_number_alone(targets, corpus) -> None:
    recordings = corpus.indices("train")

    def batches(seed: int) -> CropBatches:
        return CropBatches([targets], recordings, FRONT_END, 4, seed, Mixing(), Surroundings())

    stream = batches(0).generate(3)
    for number in (3, 4):
        one, other = next(stream), batches(0).batch(number)
        np.testing.assert_array_equal(one.log_mels, other.log_mels)
        for a, b in zip(one.answers[0], other.answers[0], strict=True):
            np.testing.assert_array_equal(a, b)
    stream.close()
    assert not np.array_equal(batches(0).batch(3).log_mels, batches(1).batch(3).log_mels)


@pytest.mark.parametrize("mixed", [0.0, 1.0])
def test_a_mixture_has_the_higher_scores_and_no_embedding(targets, corpus, mixed) -> None:
    batches = CropBatches(
        [targets], corpus.indices("train"), FRONT_END, 16, 0, Mixing(mixed=mixed), None
    )
    batch = batches.batch(0)
    assert batch.log_mels.shape == (16, FRONT_END.num_frames, FRONT_END.num_mels)
    assert np.isfinite(batch.log_mels).all()
    (answers,) = batch.answers
    assert (answers.heard.sum() == 0) == (mixed == 1.0)
    assert (answers.scored >= answers.heard).all()


def test_crops_are_aligned_to_the_windows_of_all_teachers(both_targets, corpus) -> None:
    quick, slow = both_targets
    assert slow.grid.hop_frames % quick.grid.hop_frames == 0
    start = slow.grid.hop_frames
    crop = crop_of(both_targets, 0, start, FRONT_END)
    mine, other = crop.answers
    first = start // quick.grid.hop_frames
    np.testing.assert_array_equal(mine.scores, quick[0].scores[first : first + len(mine.scores)])
    np.testing.assert_array_equal(other.embeddings, slow[0].embeddings[1:2])
    batch = CropBatches(both_targets, corpus.indices("train"), FRONT_END, 8, mixing=Mixing()).batch(
        0
    )
    assert [answers.embeddings.shape[2] for answers in batch.answers] == [16, 7]


def test_a_window_as_long_as_the_crop_moves_with_a_short_recording(both_targets) -> None:
    crop = crop_of(both_targets, 1, -2 * both_targets[0].grid.hop_frames, FRONT_END)
    mine, other = crop.answers
    assert mine.heard.tolist()[:4] == [0.0, 0.0, 1.0, 0.0]
    assert other.heard.tolist() == [1.0]
    np.testing.assert_array_equal(other.embeddings[0], both_targets[1][1].embeddings[0])
