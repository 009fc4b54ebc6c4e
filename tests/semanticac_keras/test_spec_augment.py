import numpy as np
from keras import ops

from semanticac_keras import SpecAugment

ONES = np.ones((64, 100, 40), np.float32)


def test_the_identity_unless_training():
    np.testing.assert_array_equal(ops.convert_to_numpy(SpecAugment()(ONES)), ONES)


def test_hides_whole_stripes_no_longer_than_allowed():
    layer = SpecAugment(time_stripes=1, max_frames=20, mel_stripes=1, max_mels=5, seed=0)
    hidden = ops.convert_to_numpy(layer(ONES, training=True)) == 0
    frames, mels = hidden.all(axis=2), hidden.all(axis=1)  # (B, T), (B, F)
    np.testing.assert_array_equal(hidden, frames[:, :, None] | mels[:, None, :])
    for stripes, longest in ((frames, 20), (mels, 5)):
        assert longest - 2 <= stripes.sum(axis=1).max() <= longest
        # One stripe: at most one rise and one fall.
        assert np.abs(np.diff(stripes.astype(int), axis=1)).sum(axis=1).max() <= 2
        assert stripes.any(axis=0).mean() > 0.9  # hardly a place is safe
    assert len(np.unique(frames, axis=0)) > 32  # each clip has its own


def test_draws_anew_each_time():
    layer = SpecAugment(seed=0)
    first, second = (ops.convert_to_numpy(layer(ONES, training=True)) for _ in range(2))
    assert (first != second).any()


def test_config_round_trip():
    config = SpecAugment(1, 2, 3, 4, seed=5).get_config()
    assert SpecAugment.from_config(config).get_config() == config
