"""The level meter: how loud the sound since the last reading was."""

import math

import numpy as np

from edge.inference.level import FLOOR_DBFS, energy
from edge.types import FloatArray


class LevelMeter:
    """Mean and peak level of the samples between two readings."""

    def __init__(self) -> None:
        self._squares, self._peak, self._samples = 0.0, 0.0, 0

    def push(self, chunk: FloatArray) -> None:
        """Take the next samples (samples,)."""
        self._squares += energy(chunk)
        self._peak = max(self._peak, float(np.abs(chunk).max(initial=0.0)))
        self._samples += len(chunk)

    def read(self) -> tuple[float, float]:
        """RMS and peak level in decibels below full scale, and start anew."""
        rms = math.sqrt(self._squares / self._samples) if self._samples else 0.0
        peak = self._peak
        self._squares, self._peak, self._samples = 0.0, 0.0, 0
        return _dbfs(rms), _dbfs(peak)


def _dbfs(amplitude: float) -> float:
    """Also for what is no number: the floor."""
    if not 0 < amplitude < math.inf:
        return FLOOR_DBFS
    return max(FLOOR_DBFS, 20 * math.log10(amplitude))
