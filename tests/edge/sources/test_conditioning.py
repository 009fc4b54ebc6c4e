"""What is done to samples before anything else hears them."""

import logging

import numpy as np
import pytest

from edge.inference.level import level_dbfs
from edge.sources.base import Gap
from edge.sources.conditioning import ConditionedSource, Gain, HighPass, gain_decibels

RATE_HZ = 32_000


def tone(frequency_hz, seconds=1.0, level_dbfs=-3.01):
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    amplitude = np.sqrt(2) * 10 ** (level_dbfs / 20)
    return (amplitude * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


def pushed(stage, sound, sizes=(3_200,)):
    """Pass a sound through a stage in chunks of these sizes, in turn."""
    chunks, start = [], 0
    while start < len(sound):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stage.push(sound[start : start + size]))
        start += size
    return np.concatenate(chunks)


def test_a_constant_offset_is_removed_from_the_first_sample_on():
    offset = np.full(RATE_HZ, 0.3, np.float32)
    assert np.abs(pushed(HighPass(20.0, RATE_HZ), offset)).max() < 1e-6
    sound = tone(440.0, level_dbfs=-40.0)
    heard = pushed(HighPass(20.0, RATE_HZ), sound + np.float32(0.3))
    assert level_dbfs(heard) == pytest.approx(-40.0, abs=0.1)


@pytest.mark.parametrize(
    ("frequency_hz", "cutoff_hz", "decibels"),
    [(1_000.0, 20.0, 0.0), (200.0, 200.0, -3.0), (20.0, 200.0, -20.0), (50.0, 0.0, 0.0)],
)
def test_the_filter_is_of_first_order(frequency_hz, cutoff_hz, decibels):
    heard = pushed(HighPass(cutoff_hz, RATE_HZ), tone(frequency_hz, 2.0))
    assert level_dbfs(heard[RATE_HZ:]) + 3.01 == pytest.approx(decibels, abs=0.3)


def test_the_filtered_stream_does_not_depend_on_its_chunks():
    sound = np.random.default_rng(0).normal(0.1, 0.2, 10_000).astype(np.float32)
    whole = HighPass(100.0, RATE_HZ).push(sound)
    parts = pushed(HighPass(100.0, RATE_HZ), sound, (1, 255, 256, 257, 1_000))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert whole.dtype == np.float32
    assert HighPass(100.0, RATE_HZ).push(sound[:0]).size == 0


def test_absurd_samples_disturb_nothing_after_them():
    sound = np.concatenate([np.full(RATE_HZ, 1e30, np.float32), tone(440.0, level_dbfs=-40.0)])
    heard = pushed(HighPass(20.0, RATE_HZ), sound)[RATE_HZ + RATE_HZ // 10 :]
    assert level_dbfs(heard) == pytest.approx(-40.0, abs=0.1)


def test_the_highest_cutoff_stays_finite_at_the_lowest_rate():
    heard = HighPass(1_000.0, 8_000).push(np.ones(8_000, np.float32))
    assert np.isfinite(heard).all()


def test_a_fixed_gain_amplifies_and_clips():
    np.testing.assert_allclose(Gain("20", RATE_HZ).push(np.float32([0.01, -0.5])), [0.1, -1.0])
    sound = tone(440.0)
    assert Gain("0", RATE_HZ).push(sound) is sound


def test_an_automatic_gain_rises_slowly_in_a_quiet_place(caplog):
    caplog.set_level(logging.INFO, "semanticac_edge")
    gain = Gain("auto", RATE_HZ)
    quiet = tone(440.0, 1.0, level_dbfs=-45.0)
    for _ in range(60):
        gain.push(quiet)
    assert gain.decibels < 10.0  # after a minute
    for _ in range(600):
        gain.push(quiet)
    assert gain.decibels == pytest.approx(25.0, abs=0.5)
    assert level_dbfs(gain.push(quiet)) == pytest.approx(-20.0, abs=0.5)
    assert [record.getMessage() for record in caplog.records] == [
        f"The automatic gain is {decibels} dB." for decibels in (6, 12, 18, 24)
    ]
    # A loud sound lowers it at once, so that nothing is clipped.
    loud = gain.push(tone(440.0, 1.0, level_dbfs=-10.0))
    assert gain.decibels == 0.0
    assert level_dbfs(loud) == pytest.approx(-10.0, abs=0.1)


def test_an_automatic_gain_is_bounded_and_ignores_digital_silence():
    gain = Gain("auto", RATE_HZ)
    for _ in range(100):
        gain.push(np.zeros(RATE_HZ, np.float32))
    assert gain.decibels == 0.0
    for _ in range(1_000):
        gain.push(tone(440.0, 1.0, level_dbfs=-80.0))
    assert gain.decibels == 30.0


@pytest.mark.parametrize("gain", ["loud", "nan", "61", ""])
def test_other_gains_are_refused(gain):
    with pytest.raises(ValueError, match="auto, or decibels from -60 to 60"):
        gain_decibels(gain)


def test_gaps_pass_and_the_source_is_closed():
    closed = []

    class Items(list):
        def close(self):
            closed.append(True)

    gap = Gap(1.0, "lost")
    source = ConditionedSource(Items([np.full(100, 0.5, np.float32), gap]), RATE_HZ, gain="6")
    chunk, other = source
    assert np.abs(chunk).max() < 1e-6
    assert other is gap
    source.close()
    assert closed == [True]
