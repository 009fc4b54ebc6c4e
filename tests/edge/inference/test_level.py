"""The level of known signals is what a level meter shows."""

import math

import numpy as np
import pytest

from edge.inference.level import FLOOR_DBFS, level_dbfs

SINE = np.sin(2 * np.pi * 440 * np.arange(32_000) / 32_000).astype(np.float32)


@pytest.mark.parametrize("gain_db", [0.0, -20.0, -60.0, -110.0])
def test_sines_and_squares(gain_db):
    gain = np.float32(10 ** (gain_db / 20))
    assert level_dbfs(gain * SINE) == pytest.approx(gain_db - 3.0103, abs=1e-3)
    assert level_dbfs(gain * np.sign(SINE + 1e-9)) == pytest.approx(gain_db, abs=1e-3)


def test_no_level_is_below_the_floor():
    assert level_dbfs(np.zeros(100, np.float32)) == FLOOR_DBFS
    assert level_dbfs(np.zeros(0, np.float32)) == FLOOR_DBFS
    assert level_dbfs(np.float32(1e-9) * SINE) == FLOOR_DBFS


def test_huge_peaks_have_a_finite_level():
    assert math.isfinite(level_dbfs(np.full(320_000, 1e12, np.float32)))
