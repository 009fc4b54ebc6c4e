"""Resampling in chunks matches resampling the complete signal."""

import numpy as np
import pytest
import soxr

from edge.sources.resampling import Resampler


@pytest.mark.parametrize(("from_rate_hz", "to_rate_hz"), [(44_100, 32_000), (8_000, 32_000)])
@pytest.mark.parametrize("size", [1, 441, 10_000])
def test_chunks_do_not_show_in_the_result(make_sound, from_rate_hz, to_rate_hz, size):
    sound = make_sound(3_001)
    resampler = Resampler(from_rate_hz, to_rate_hz)
    parts = [resampler.push(sound[start : start + size]) for start in range(0, sound.size, size)]
    resampled = np.concatenate([*parts, resampler.flush()])
    expected = soxr.resample(sound, from_rate_hz, to_rate_hz, quality="HQ")
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, expected, atol=1e-6)


def test_equal_rates_leave_samples_unchanged(make_sound):
    sound = make_sound(1_000)
    resampler = Resampler(32_000, 32_000)
    np.testing.assert_array_equal(resampler.push(sound), sound)
    assert resampler.flush().shape == (0,)


def test_the_end_of_an_empty_stream_is_empty():
    assert Resampler(44_100, 32_000).flush().shape == (0,)


def test_a_push_after_the_end_starts_a_new_stream(make_sound):
    sound = make_sound(44_100)
    resampler = Resampler(44_100, 32_000)
    for samples in (sound, sound[:20_000], sound):
        parts = [resampler.push(part) for part in np.array_split(samples, 7)]
        resampled = np.concatenate([*parts, resampler.flush()])
        np.testing.assert_allclose(
            resampled, soxr.resample(samples, 44_100, 32_000, quality="HQ"), atol=1e-6
        )
