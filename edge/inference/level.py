"""Sound level in decibels below full scale (dBFS)."""

import math

import numpy as np

from edge.types import FloatArray

# Reported for silence and for everything quieter.
FLOOR_DBFS = -120.0


class LevelMeter:
    """RMS and peak level of the samples between two readings."""

    def __init__(self) -> None:
        self._energy, self._peak, self._count = 0.0, 0.0, 0

    def push(self, chunk: FloatArray) -> None:
        """Add the next samples, float32, full scale 1, shape (samples,)."""
        self._energy += _energy(chunk)
        self._peak = max(self._peak, float(np.abs(chunk).max(initial=0.0)))
        self._count += chunk.size

    def read(self) -> tuple[float, float]:
        """Return RMS and peak level in dBFS, then reset.

        Each is `FLOOR_DBFS` if NaN or infinite samples leave it without a value.
        """
        mean_square = self._energy / self._count if self._count else 0.0
        peak = self._peak
        self._energy, self._peak, self._count = 0.0, 0.0, 0
        return _decibels(mean_square), _decibels(peak * peak)


def level_dbfs(samples: FloatArray) -> float:
    """RMS level in dBFS: 0 for a full-scale square wave, -3.01 for a full-scale sine.

    Args:
        samples: float32, full scale 1, shape (samples,).

    Returns:
        The level, at least `FLOOR_DBFS`; also `FLOOR_DBFS` if a sample is NaN or infinite.
    """
    return _decibels(_energy(samples) / samples.size if samples.size else 0.0)


def _energy(samples: FloatArray) -> float:
    # np.dot would wake OpenBLAS's threads, and its result would depend on their number.
    return float(np.einsum("i,i->", samples, samples))


def _decibels(power: float) -> float:
    if not 0.0 < power < math.inf:
        return FLOOR_DBFS
    return max(FLOOR_DBFS, 10.0 * math.log10(power))
