"""PCM sources match decoding and resampling all the bytes in one step."""

import io

import numpy as np
import pytest
import soxr

from edge import pcm_source
from edge.sources import Gap
from tests.edge.listening import drain


def test_nan_in_a_pipe_leaves_a_gap(make_sound):
    """A pipe may be live: the stream continues after the gap."""
    sound = make_sound(16_000 * 2)
    sound[17_000] = np.nan
    before, after = sound[:16_000], sound[17_600:]
    stream = io.BytesIO(sound.astype("<f4").tobytes())
    items = list(pcm_source(stream, 32_000, 16_000, sample_format="f32le"))
    (place,) = [index for index, item in enumerate(items) if isinstance(item, Gap)]
    assert items[place] == Gap(0.1, "NaN or infinite samples")
    for part, chunks in ((before, items[:place]), (after, items[place + 1 :])):
        expected = soxr.resample(part, 16_000, 32_000, quality="HQ")
        np.testing.assert_allclose(np.concatenate(chunks), expected, atol=1e-6)


class Trickle(io.BytesIO):
    """Reads of any length, even within a sample, as from pipes and sockets."""

    def __init__(self, data, seed):
        super().__init__(data)
        self._rng = np.random.default_rng(seed)

    def read(self, size=-1):
        return super().read(int(self._rng.integers(1, 200)) % size + 1)


@pytest.mark.parametrize("rate_hz", [16_000, 32_000])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sample_format", ["s16le", "f32le"])
def test_pcm_matches_the_wav(make_sound, sample_format, channels, rate_hz):
    sound = np.stack([make_sound(9000, seed) for seed in range(channels)], axis=1)
    if sample_format == "s16le":
        data = (sound * 32767).astype("<i2")
        sound = data.astype(np.float32) / 32768
    else:
        data = sound.astype("<f4")
    expected = soxr.resample(sound.mean(axis=1), 16_000, rate_hz, quality="HQ")
    for stream in (io.BytesIO(data.tobytes()), Trickle(data.tobytes() + b"\x01", seed=0)):
        samples, failure = drain(pcm_source(stream, rate_hz, 16_000, channels, sample_format))
        assert failure is None
        np.testing.assert_allclose(samples, expected, atol=1e-6)


def test_a_failing_pcm_stream_yields_its_samples_first():
    class Unplugged(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            if not data:
                raise OSError(5, "Input/output error")
            return data

    samples, failure = drain(pcm_source(Unplugged(bytes(32_000)), 16_000, 16_000))
    assert samples.size == 16_000
    assert str(failure) == "The PCM stream failed: Input/output error."


def test_invalid_pcm_arguments_are_refused_immediately():
    with pytest.raises(ValueError, match=r"one of s16le, f32le\. Received: u8"):
        pcm_source(io.BytesIO(), 16_000, 16_000, 1, "u8")
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0 and 1"):
        pcm_source(io.BytesIO(), 16_000, 0)
