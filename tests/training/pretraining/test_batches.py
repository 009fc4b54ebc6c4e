"""Crops and their targets."""

import numpy as np
import pytest

from tests.micro import PRESET
from training.pretraining.batches import CropBatches, Mixing, crop_of
from training.pretraining.spectra import Surroundings, to_power

FRONT_END = PRESET.front_end


def test_a_crop_has_the_frames_and_windows_of_its_time(targets) -> None:
    heard, grid = targets[0], targets.grid
    crop = crop_of(heard, 2, FRONT_END, grid)
    start = 2 * grid.hop_frames
    np.testing.assert_array_equal(
        crop.power, to_power(heard.log_mels[start : start + FRONT_END.num_frames])
    )
    np.testing.assert_array_equal(crop.scores, heard.scores[2 : 2 + len(crop.scores)])
    assert crop.heard.all()


def test_a_short_recording_lies_in_silence(targets) -> None:
    heard, grid = targets[1], targets.grid
    crop = crop_of(heard, -1, FRONT_END, grid)
    assert not crop.power[: grid.hop_frames].any()
    assert crop.power[grid.hop_frames].any()
    assert crop.heard.tolist() == [0.0, 1.0, *[0.0] * (len(crop.heard) - 2)]
    np.testing.assert_array_equal(crop.embeddings[1], heard.embeddings[0])


def test_batches_depend_on_seed_and_number_alone(targets, corpus) -> None:
    recordings = corpus.indices("train")

    def batches(seed: int) -> CropBatches:
        return CropBatches(targets, recordings, FRONT_END, 4, seed, Mixing(), Surroundings())

    stream = batches(0).generate(3)
    for number in (3, 4):
        for a, b in zip(next(stream), batches(0).batch(number), strict=True):
            np.testing.assert_array_equal(a, b)
    stream.close()
    assert not np.array_equal(batches(0).batch(3).log_mels, batches(1).batch(3).log_mels)


@pytest.mark.parametrize("mixed", [0.0, 1.0])
def test_a_mixture_has_the_higher_scores_and_no_embedding(targets, corpus, mixed) -> None:
    batches = CropBatches(
        targets, corpus.indices("train"), FRONT_END, 16, 0, Mixing(mixed=mixed), None
    )
    batch = batches.batch(0)
    assert batch.log_mels.shape == (16, FRONT_END.num_frames, FRONT_END.num_mels)
    assert np.isfinite(batch.log_mels).all()
    assert (batch.heard.sum() == 0) == (mixed == 1.0)
    assert (batch.scored >= batch.heard).all()
