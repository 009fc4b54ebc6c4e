"""Waveform augmentation: AudioCLIP's transforms, gain and mixup."""

import math
from dataclasses import dataclass

import numpy as np

from edge.types import FloatArray
from semanticac_keras.audio_tower import fit_to_window

# Least share at which a clip in a mixture counts as present: 19 dB below the other.
_AUDIBLE_SHARE = 0.1


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training clip. By default a clip is only cropped.

    Args:
        time_flip: probability of reversing the clip.
        time_scale: largest factor by which the clip is sped up or slowed down; 1 is off.
        noise: probability of adding Gaussian noise.
        noise_snr_db: range of the signal-to-noise ratio, in dB.
        gain_db: largest change of level, up or down, in dB.
        mixup: alpha of the Beta distribution of the mixing weight; 0 is off.

    Source: Guzhov et al. 2021, "AudioCLIP", section 4; Zhang et al. 2018, "mixup".
    """

    time_flip: float = 0.0
    time_scale: float = 1.0
    noise: float = 0.0
    noise_snr_db: tuple[float, float] = (10.0, 120.0)
    gain_db: float = 0.0
    mixup: float = 0.0


def augment(
    waveform: FloatArray,
    window_samples: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    whole_repeats: bool = False,
) -> FloatArray:
    """Return one augmented view of a clip.

    Args:
        waveform: float32 (samples,), any length; repeated first if shorter than the window.
        window_samples: length of the result.
        augmentation: changes to apply.
        rng: random number generator.
        whole_repeats: how a short clip is repeated, see `semanticac_keras.AudioTower`.

    Returns:
        float32 (window_samples,).
    """
    if waveform.size < window_samples:
        [waveform] = fit_to_window(waveform, window_samples, whole_repeats=whole_repeats)
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
    inputs: FloatArray,
    shares: FloatArray,
    alpha: float,
    rng: np.random.Generator,
    exclusive: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Mix a batch with a permutation of itself (mixup).

    Args:
        inputs: float32 (B, ...), such as waveforms.
        shares: float32 label shares (B, K).
        alpha: parameter of Beta(alpha, alpha); 0 returns the batch unchanged.
        rng: random number generator.
        exclusive: whether a mixture has its labels by their shares. Otherwise it has all labels of
            both clips, the larger target of each, unless one of them is inaudible.

    Returns:
        Mixed inputs (B, ...) and label shares (B, K); each clip keeps the larger share.
    """
    if alpha <= 0.0:
        return inputs, shares
    kept = rng.beta(alpha, alpha, size=len(inputs)).astype(np.float32)
    kept = np.maximum(kept, 1.0 - kept)
    other = rng.permutation(len(inputs))

    def mixed(values: FloatArray) -> FloatArray:
        factor = kept.reshape(-1, *[1] * (values.ndim - 1))
        return factor * values + (1.0 - factor) * values[other]

    if not exclusive:
        audible = (1.0 - kept >= _AUDIBLE_SHARE)[:, np.newaxis]
        return mixed(inputs), np.where(audible, np.maximum(shares, shares[other]), shares)
    return mixed(inputs), mixed(shares)


def _time_scale(waveform: FloatArray, factor: float) -> FloatArray:
    """Speed up by `factor` with linear interpolation, as AudioCLIP does."""
    positions = np.arange(round(waveform.size / factor), dtype=np.float64) * factor
    whole = np.minimum(positions.astype(np.int64), waveform.size - 2)
    fraction = np.minimum(positions - whole, 1.0).astype(np.float32)
    return waveform[whole] * (1.0 - fraction) + waveform[whole + 1] * fraction


def _crop_or_pad(waveform: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """Crop at a random position, or pad with silence split at random."""
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
