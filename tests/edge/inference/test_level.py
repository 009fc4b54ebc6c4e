"""Sound levels in dBFS."""

import math

import numpy as np
import pytest

from edge.inference.level import FLOOR_DBFS, LevelMeter, level_dbfs

SINE = np.sin(2 * np.pi * 440 * np.arange(32_000) / 32_000).astype(np.float32)


@pytest.mark.parametrize("gain_db", [0.0, -20.0, -60.0, -110.0])
def test_sine_and_square_waves(gain_db):
    gain = np.float32(10 ** (gain_db / 20))
    assert level_dbfs(gain * SINE) == pytest.approx(gain_db - 3.0103, abs=1e-3)
    assert level_dbfs(gain * np.sign(SINE + 1e-9)) == pytest.approx(gain_db, abs=1e-3)


def test_no_level_is_below_the_floor():
    assert level_dbfs(np.zeros(100, np.float32)) == FLOOR_DBFS
    assert level_dbfs(np.zeros(0, np.float32)) == FLOOR_DBFS
    assert level_dbfs(np.float32(1e-9) * SINE) == FLOOR_DBFS


def test_absurd_peaks_have_a_finite_level():
    assert math.isfinite(level_dbfs(np.full(320_000, 1e12, np.float32)))


def test_the_meter_covers_the_samples_since_the_last_reading():
    meter = LevelMeter()
    assert meter.read() == (FLOOR_DBFS, FLOOR_DBFS)
    meter.push(np.full(100, 0.5, np.float32))
    meter.push(np.zeros(300, np.float32))
    assert meter.read() == pytest.approx((-12.04, -6.02), abs=0.01)
    meter.push(np.full(100, 0.1, np.float32))
    assert meter.read() == pytest.approx((-20.0, -20.0), abs=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_without_a_value_read_as_the_floor(value):
    meter = LevelMeter()
    meter.push(np.array([value, 0.5], np.float32))
    assert meter.read() == (FLOOR_DBFS, FLOOR_DBFS)
    meter.push(np.full(100, 0.1, np.float32))
    assert meter.read() == pytest.approx((-20.0, -20.0), abs=0.01)


def test_the_meter_and_the_level_of_a_window_agree():
    meter = LevelMeter()
    for chunk in np.split(SINE, 10):
        meter.push(chunk)
    assert meter.read() == pytest.approx((level_dbfs(SINE), 0.0), abs=1e-3)
