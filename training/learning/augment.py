"""FloatArray augmentation: AudioCLIP's list, gain, and mixup."""

import math
from dataclasses import dataclass

import numpy as np

from edge.types import FloatArray, IntArray


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training clip. The defaults change nothing but the crop.

    Args:
        time_flip: probability of reversing the clip.
        time_scale: largest factor by which the clip is played faster or slower; 1 is off.
        noise: probability of adding Gaussian noise.
        noise_snr_db: range of its signal-to-noise ratio.
        gain_db: largest change of level, either way.
        mixup: parameter of the Beta distribution of the mixing share; 0 is off.

    Source: Guzhov et al. 2021, "AudioCLIP", section 4; Zhang et al. 2018, "mixup".
    """

    time_flip: float = 0.0
    time_scale: float = 1.0
    noise: float = 0.0
    noise_snr_db: tuple[float, float] = (10.0, 120.0)
    gain_db: float = 0.0
    mixup: float = 0.0


def augment(
    waveform: FloatArray, window_samples: int, augmentation: Augmentation, rng: np.random.Generator
) -> FloatArray:
    """One augmented view of a clip.

    Args:
        waveform: (samples,), any length; repeated first if it is shorter than the window.
        window_samples: samples of the result.
        augmentation: what to do.
        rng: source of chance.

    Returns:
        float32 (window_samples,).
    """
    if waveform.size < window_samples:
        waveform = np.resize(waveform, window_samples)
    if rng.random() < augmentation.time_flip:
        waveform = waveform[::-1]
    if augmentation.time_scale > 1.0:
        limit = math.log(augmentation.time_scale)
        waveform = _time_scale(waveform, math.exp(rng.uniform(-limit, limit)))
    waveform = _crop_or_pad(waveform, window_samples, rng)
    if augmentation.gain_db:
        gain_db = rng.uniform(-augmentation.gain_db, augmentation.gain_db)
        waveform = waveform * np.float32(10.0 ** (gain_db / 20.0))
    if rng.random() < augmentation.noise:
        waveform = _add_noise(waveform, rng.uniform(*augmentation.noise_snr_db), rng)
    return np.ascontiguousarray(waveform, np.float32)


def mix(
    waveforms: FloatArray, shares: FloatArray, alpha: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Mixup of a batch with a permutation of itself.

    Args:
        waveforms: (B, samples).
        shares: (B, K) label shares.
        alpha: parameter of Beta(alpha, alpha); 0 leaves the batch as it is.
        rng: source of chance.

    Returns:
        Mixed waveforms and label shares; each clip keeps the larger part.
    """
    if alpha <= 0.0:
        return waveforms, shares
    kept, other = draw_mixtures(len(waveforms), alpha, rng)
    return (
        kept * waveforms + (1.0 - kept) * waveforms[other],
        kept * shares + (1.0 - kept) * shares[other],
    )


def draw_mixtures(size: int, alpha: float, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """How much each of `size` clips keeps of itself (size, 1), and whom it is mixed with (size,).

    Args:
        size: number of clips.
        alpha: parameter of Beta(alpha, alpha), positive.
        rng: source of chance.
    """
    kept = rng.beta(alpha, alpha, size=(size, 1)).astype(np.float32)
    return np.maximum(kept, 1.0 - kept), rng.permutation(size)


def _time_scale(waveform: FloatArray, factor: float) -> FloatArray:
    """Play `factor` times faster, by linear interpolation as in AudioCLIP."""
    positions = np.arange(round(waveform.size / factor), dtype=np.float64) * factor
    whole = np.minimum(positions.astype(np.int64), waveform.size - 2)
    fraction = np.minimum(positions - whole, 1.0).astype(np.float32)
    return waveform[whole] * (1.0 - fraction) + waveform[whole + 1] * fraction


def _crop_or_pad(waveform: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """A random piece, or the whole between random lengths of silence."""
    surplus = waveform.size - size
    if surplus >= 0:
        start = int(rng.integers(surplus + 1))
        return waveform[start : start + size]
    before = int(rng.integers(-surplus + 1))
    return np.pad(waveform, (before, -surplus - before))


def _add_noise(waveform: FloatArray, snr_db: float, rng: np.random.Generator) -> FloatArray:
    power = float(np.mean(np.square(waveform)))
    deviation = np.float32(math.sqrt(power * 10.0 ** (-snr_db / 10.0)))
    return waveform + deviation * rng.standard_normal(waveform.size, np.float32)
