import numpy as np
from keras import ops

from semanticac_keras import SpecAugment

ONES = np.ones((64, 100, 40), np.float32)


def test_inference_is_the_identity():
    np.testing.assert_array_equal(ops.convert_to_numpy(SpecAugment()(ONES)), ONES)


def test_masks_stripes_up_to_the_maximum_size():
    layer = SpecAugment(time_stripes=1, max_frames=20, mel_stripes=1, max_mels=5, seed=0)
    hidden = ops.convert_to_numpy(layer(ONES, training=True)) == 0
    frames, mels = hidden.all(axis=2), hidden.all(axis=1)  # (B, T), (B, F)
    np.testing.assert_array_equal(hidden, frames[:, :, None] | mels[:, None, :])
    for stripes, longest in ((frames, 20), (mels, 5)):
        assert longest - 2 <= stripes.sum(axis=1).max() <= longest
        # One stripe: at most one rise and one fall.
        assert np.abs(np.diff(stripes.astype(int), axis=1)).sum(axis=1).max() <= 2
        assert stripes.any(axis=0).mean() > 0.9  # almost every position is masked in some clip
    assert len(np.unique(frames, axis=0)) > 32  # clips have different masks


def test_masks_differ_between_calls():
    layer = SpecAugment(seed=0)
    first, second = (ops.convert_to_numpy(layer(ONES, training=True)) for _ in range(2))
    assert (first != second).any()


def test_config_round_trip():
    config = SpecAugment(1, 2, 3, 4, seed=5).get_config()
    assert SpecAugment.from_config(config).get_config() == config
