"""Sound level in dBFS."""

import math

import numpy as np

from edge.types import FloatArray

# The lowest level reported: digital silence would be minus infinity.
FLOOR_DBFS = -120.0


def level_dbfs(samples: FloatArray) -> float:
    """RMS level in decibels below full scale: 0 for a full-scale square wave, -3.01 for a sine.

    Args:
        samples: float32, full scale 1, shape (samples,).

    Returns:
        The level, at least `FLOOR_DBFS`.
    """
    total = energy(samples)
    if total == 0.0:
        return FLOOR_DBFS
    return max(FLOOR_DBFS, 10.0 * math.log10(total / samples.size))


def energy(samples: FloatArray) -> float:
    """Sum of the squares of float32 samples (samples,)."""
    # Not np.dot: for long arrays it wakes OpenBLAS's threads, and the sum depends on their number.
    return float(np.einsum("i,i->", samples, samples))
