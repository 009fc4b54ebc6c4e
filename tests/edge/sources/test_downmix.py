"""One channel of several."""

import numpy as np
import pytest

from edge import SourceError
from edge.sources.downmix import Downmix, channel_number


def noise(frames=300_000, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, frames).astype(np.float32)


@pytest.mark.parametrize(
    ("channel", "expected"), [("mix", 2.0), ("left", 1.0), ("right", 3.0), ("2", 3.0)]
)
def test_channels_are_averaged_or_chosen(channel, expected):
    frames = np.tile(np.float32([1.0, 3.0]), (5, 1))
    np.testing.assert_array_equal(Downmix(channel).push(frames), np.full(5, expected))


def test_the_result_is_a_new_array():
    frames = np.zeros((5, 1), np.float32)
    samples = Downmix().push(frames)
    samples[:] = 1.0
    assert not frames.any()


def test_a_missing_channel_is_an_error():
    with pytest.raises(SourceError, match="has 1 channel; --channel 2 does not exist"):
        Downmix("right").push(np.zeros((5, 1), np.float32))
    with pytest.raises(SourceError, match="has 2 channels; --channel 7"):
        Downmix("7").push(np.zeros((5, 2), np.float32))


@pytest.mark.parametrize("channel", ["middle", "0", "-1", "257", "1.0", "²"])
def test_other_names_are_refused(channel):
    with pytest.raises(ValueError, match="mix, left, right or a number from 1 to 256"):
        channel_number(channel)


def test_channels_that_cancel_each_other_are_reported_once(caplog):
    sound = noise()
    downmix = Downmix()
    for start in range(0, len(sound), 3_000):
        part = sound[start : start + 3_000]
        downmix.push(np.stack([part, -0.98 * part], axis=1))
    (record,) = caplog.records
    assert "The channels cancel each other: their mean is 40 dB quieter" in record.getMessage()
    assert "--channel left" in record.getMessage()


@pytest.mark.parametrize(
    "frames",
    [
        np.stack([noise(), noise(seed=1)], axis=1),  # nothing in common
        np.stack([noise(), np.zeros(300_000, np.float32)], axis=1),
        1e-4 * np.stack([noise(), -noise()], axis=1),  # too quiet to tell
    ],
    ids=["unrelated", "one silent", "quiet"],
)
def test_other_channels_are_not(frames, caplog):
    Downmix().push(frames)
    assert not caplog.records
