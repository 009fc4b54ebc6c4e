"""How loud sound is."""

import math

import numpy as np

from edge.types import FloatArray

# Silence has no level; this is what it is given, and what anything quieter is.
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
    # Not np.dot: long ones wake OpenBLAS's threads, and then differ with their number.
    return float(np.einsum("i,i->", samples, samples))
