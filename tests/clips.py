"""Synthetic clips of three easily separated classes."""

import numpy as np

LABELS = ("low hum", "whistle", "hiss")


def make_clips(num_clips: int, num_samples: int, sample_rate_hz: int, seed: int = 0):
    """Hums, whistles and noise: waveforms (n, samples) and classes (n,)."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(num_samples) / sample_rate_hz
    labels = np.arange(num_clips) % 3
    waveforms = [
        (
            0.3 * np.sin(2 * np.pi * rng.uniform(150, 250) * seconds),
            0.3 * np.sin(2 * np.pi * rng.uniform(1800, 2200) * seconds),
            0.1 * rng.standard_normal(num_samples),
        )[label]
        + 0.003 * rng.standard_normal(num_samples)
        for label in labels
    ]
    return np.stack(waveforms).astype(np.float32), labels
