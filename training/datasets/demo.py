"""Synthetic dataset without files, for first runs and tests.

Each clip has its own pitches, rates, onsets, level and background noise, from a random generator
seeded with label, fold and index.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge.types import FloatArray
from semanticac_keras.sound_files import resample
from training.datasets.base import AudioDataset, Clip

NUM_FOLDS = 5
CLIPS_PER_LABEL_AND_FOLD = 8
DURATION_SECONDS = 2.5
SAMPLE_RATE_HZ = 32_000
SNR_RANGE_DB = (6.0, 30.0)
PEAK_RANGE_DB = (-18.0, -1.0)

_NUM_SAMPLES = int(DURATION_SECONDS * SAMPLE_RATE_HZ)
_TIME_SECONDS = np.arange(_NUM_SAMPLES) / SAMPLE_RATE_HZ

_Signal: TypeAlias = NDArray[np.float64]


def load(data_dir: Path | None, progress: bool) -> AudioDataset:
    """Return the synthetic dataset. Clips are rendered when they are read.

    Raises:
        ValueError: if `data_dir` is given.
    """
    if data_dir is not None:
        raise ValueError(f"`data_dir` must be None: demo has no files. Received: {data_dir}.")
    clips = []
    for (label, text), fold, index in product(
        enumerate(LABELS), range(1, NUM_FOLDS + 1), range(CLIPS_PER_LABEL_AND_FOLD)
    ):
        name = f"{text.replace(' ', '-')}-{fold}-{index}"
        clips.append(Clip(name, label, fold, name, path=None, duration_seconds=DURATION_SECONDS))
    return AudioDataset(
        name="demo",
        labels=LABELS,
        clips=tuple(clips),
        licence="CC0 1.0 (generated)",
        citation="",
        read=_read,
    )


def render(label: str, fold: int, index: int, sample_rate_hz: int = SAMPLE_RATE_HZ) -> FloatArray:
    """Render one clip, the same on every call.

    Args:
        label: one of `LABELS`.
        fold: 1 to `NUM_FOLDS` for clips of the dataset; 0 for sounds outside it.
        index: of the clip within its label and fold, from 0.
        sample_rate_hz: rate of the result; resampled from `SAMPLE_RATE_HZ`.

    Returns:
        float32 samples `(num_samples,)` of `DURATION_SECONDS`, within about ±1.

    Raises:
        ValueError: if the label is unknown.
    """
    if label not in LABELS:
        raise ValueError(f"`label` must be one of {', '.join(LABELS)}. Received: {label!r}.")
    rng = np.random.default_rng([LABELS.index(label), fold, index])
    sound = _SOUNDS[label](rng)
    background = _noise(rng, 40, 14_000, slope=rng.uniform(-1.0, 0.0))
    sound = _unit_rms(sound) + background * 10 ** (-rng.uniform(*SNR_RANGE_DB) / 20)
    peak = 10 ** (rng.uniform(*PEAK_RANGE_DB) / 20)
    waveform = (sound * (peak / np.abs(sound).max())).astype(np.float32)
    return resample(waveform, SAMPLE_RATE_HZ, sample_rate_hz)


def write_example_wav(path: Path, label: str, seed: int = 0) -> None:
    """Write a 16-bit WAV of a sound outside the dataset.

    Args:
        path: target file.
        label: one of `LABELS`.
        seed: index of the sound, from 0.
    """
    soundfile.write(path, render(label, 0, seed), SAMPLE_RATE_HZ, "PCM_16", format="WAV")


def _read(clip: Clip, sample_rate_hz: int) -> FloatArray:
    """Render a clip of the dataset."""
    index = int(clip.name.rsplit("-", 1)[1])
    return render(LABELS[clip.labels[0]], clip.fold, index, sample_rate_hz)


def _siren(rng: np.random.Generator) -> _Signal:
    """A wail or yelp between two pitches."""
    low_hz = rng.uniform(450, 750)
    span = rng.uniform(1.6, 2.4)
    rate_hz = np.exp(rng.uniform(np.log(0.3), np.log(3.0)))
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * (rate_hz * _TIME_SECONDS + rng.uniform()))
    return _tone(low_hz * span**sweep, rng.uniform(0.3, 1.0, 5) / np.arange(1, 6))


def _church_bell(rng: np.random.Generator) -> _Signal:
    """Inharmonic partials that ring on after each stroke."""
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.6, 3.0, 4.1, 5.4])[:, None]
    partials_hz = rng.uniform(200, 550) * ratios * rng.uniform(0.99, 1.01, ratios.shape)
    decays_seconds = rng.uniform(0.8, 2.0) / ratios**0.7
    levels = rng.uniform(0.3, 1.0, ratios.shape) / ratios**0.3
    stroke = np.sum(
        levels
        * np.exp(-_TIME_SECONDS / decays_seconds)
        * np.sin(2 * np.pi * partials_hz * _TIME_SECONDS),
        axis=0,
    )
    return _repeat(stroke, _beats(rng, rng.uniform(0.7, 1.8), jitter=0.02))


def _rain(rng: np.random.Generator) -> _Signal:
    """A steady hiss under many drops."""
    drops_per_second = rng.uniform(80, 500)
    hits = rng.uniform(size=_NUM_SAMPLES) < drops_per_second / SAMPLE_RATE_HZ
    drop_hz = rng.uniform(2500, 6000)
    drop = np.exp(-_TIME_SECONDS / 0.002) * np.sin(2 * np.pi * drop_hz * _TIME_SECONDS)
    drops = _convolve(hits * rng.exponential(size=_NUM_SAMPLES), drop)
    return _noise(rng, rng.uniform(500, 1500), 12_000, rng.uniform(-0.4, 0.0)) + 3 * drops


def _clock_ticking(rng: np.random.Generator) -> _Signal:
    """Short clicks at even intervals, tick and tock."""
    beats = _beats(rng, rng.uniform(0.22, 0.55), jitter=0.0)
    resonances_hz = rng.uniform(1800, 5500, (3, 1))
    click = np.sum(
        np.exp(-_TIME_SECONDS / rng.uniform(0.003, 0.008))
        * np.sin(2 * np.pi * resonances_hz * _TIME_SECONDS),
        axis=0,
    )
    tock = np.interp(_TIME_SECONDS * rng.uniform(0.75, 0.95), _TIME_SECONDS, click)
    return _repeat(click, beats[::2]) + rng.uniform(0.5, 1.0) * _repeat(tock, beats[1::2])


def _engine_idling(rng: np.random.Generator) -> _Signal:
    """Low harmonics of an unsteady firing rate, with pulsing noise."""
    firing_hz = rng.uniform(16, 40) * (1 + 0.03 * _noise(rng, 0.5, 4.0, 0.0))
    body_hz = rng.uniform(80, 250)
    harmonics = np.arange(1, 21)
    levels = np.exp(-harmonics * firing_hz.mean() / body_hz) * rng.uniform(0.4, 1.0, 20)
    hum = _tone(firing_hz, levels)
    pulse = 1 + _tone(firing_hz, np.ones(1))
    return _unit_rms(hum) + rng.uniform(0.1, 0.4) * pulse * _noise(rng, 100, 3000, -0.5)


def _bird_chirping(rng: np.random.Generator) -> _Signal:
    """Short whistled glides."""
    song_hz = rng.uniform(2500, 5500)
    sound = np.zeros(_NUM_SAMPLES)
    for onset_seconds in rng.uniform(0.0, 2.3, rng.integers(5, 15)):
        duration_seconds = rng.uniform(0.04, 0.16)
        time = np.arange(int(duration_seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        glide = rng.uniform(0.7, 1.4) ** (time / duration_seconds)
        chirp = _tone(song_hz * rng.uniform(0.8, 1.25) * glide, np.array([1.0, 0.15]))
        start = int(onset_seconds * SAMPLE_RATE_HZ)
        sound[start : start + len(time)] += np.hanning(len(time)) * chirp
    return sound


def _footsteps(rng: np.random.Generator) -> _Signal:
    """Thuds with a scuff, at a walker's uneven pace."""
    steps = _beats(rng, rng.uniform(0.35, 0.7), jitter=0.06)
    strengths = rng.uniform(0.6, 1.0, len(steps))
    thud = np.exp(-_TIME_SECONDS / rng.uniform(0.03, 0.06))
    scuff = _TIME_SECONDS * np.exp(-_TIME_SECONDS / rng.uniform(0.015, 0.04))
    scuff /= scuff.max()
    return _repeat(thud, steps, strengths) * _noise(rng, 50, 250, 0.0) + (
        rng.uniform(0.15, 0.5) * _repeat(scuff, steps, strengths) * _noise(rng, 800, 4000, -0.5)
    )


def _ocean_waves(rng: np.random.Generator) -> _Signal:
    """Surf that swells and brightens, over a roar."""
    rate_hz = rng.uniform(0.25, 0.6)
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * (rate_hz * _TIME_SECONDS + rng.uniform()))
    surf = swell**2 * _noise(rng, 400, rng.uniform(4000, 8000), -0.5)
    return surf + rng.uniform(0.2, 0.5) * _noise(rng, 60, 500, -0.5)


def _phone_ringing(rng: np.random.Generator) -> _Signal:
    """A warble of two pitches, ringing and pausing."""
    low_hz = rng.uniform(900, 1700)
    warble = np.sin(2 * np.pi * rng.uniform(11, 25) * _TIME_SECONDS) > 0
    tone = _tone(low_hz * np.where(warble, rng.uniform(1.15, 1.35), 1.0), np.array([1.0, 0.4, 0.3]))
    period_seconds = rng.uniform(0.8, 1.6)
    ringing = (_TIME_SECONDS / period_seconds + rng.uniform()) % 1 < rng.uniform(0.5, 0.75)
    return tone * _convolve(ringing, np.exp(-_TIME_SECONDS / 0.02))


def _wind(rng: np.random.Generator) -> _Signal:
    """Gusts of low noise, with a wandering whistle."""
    gust = np.exp(0.7 * _noise(rng, 0.1, 1.5, 0.0))
    whistle_hz = rng.uniform(350, 800) * np.exp(0.2 * _noise(rng, 0.1, 1.0, 0.0))
    whistle = _tone(whistle_hz, np.ones(1)) * _noise(rng, 1.0, 25.0, 0.0)
    return gust * _noise(rng, 40, 350, -1.0) + rng.uniform(0.1, 0.5) * gust**2 * whistle


_SOUNDS: Mapping[str, Callable[[np.random.Generator], _Signal]] = MappingProxyType(
    {
        "siren": _siren,
        "church bell": _church_bell,
        "rain": _rain,
        "clock ticking": _clock_ticking,
        "engine idling": _engine_idling,
        "bird chirping": _bird_chirping,
        "footsteps": _footsteps,
        "ocean waves": _ocean_waves,
        "phone ringing": _phone_ringing,
        "wind": _wind,
    }
)
LABELS = tuple(_SOUNDS)


def _noise(rng: np.random.Generator, low_hz: float, high_hz: float, slope: float) -> _Signal:
    """Return band-limited noise of unit RMS, with amplitude ∝ frequency ** `slope`."""
    frequency_hz = np.fft.rfftfreq(_NUM_SAMPLES, 1 / SAMPLE_RATE_HZ)
    band = (frequency_hz >= low_hz) & (frequency_hz <= high_hz)
    phases = rng.standard_normal((2, band.sum()))
    spectrum = np.zeros(len(frequency_hz), np.complex128)
    spectrum[band] = (phases[0] + 1j * phases[1]) * frequency_hz[band] ** slope
    return _unit_rms(np.fft.irfft(spectrum, _NUM_SAMPLES))


def _unit_rms(signal: _Signal) -> _Signal:
    """Return a signal scaled to a root mean square of one."""
    scaled: _Signal = signal / np.sqrt(np.mean(signal**2))
    return scaled


def _tone(frequency_hz: _Signal, levels: _Signal) -> _Signal:
    """Return harmonics of a varying frequency, the fundamental first."""
    phase = 2 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE_HZ
    tone = np.zeros(len(phase))
    for harmonic, level in enumerate(levels, start=1):
        tone += level * np.sin(harmonic * phase)
    return tone


def _beats(rng: np.random.Generator, interval_seconds: float, jitter: float) -> _Signal:
    """Return onsets about an interval apart, from a random start to the end of the clip."""
    count = int(DURATION_SECONDS / interval_seconds) + 1
    offsets = rng.uniform() + jitter * rng.standard_normal(count)
    beats: _Signal = (np.arange(count) + offsets) * interval_seconds
    return beats[(beats >= 0) & (beats < DURATION_SECONDS - 0.1)]


def _repeat(
    event: _Signal, onsets_seconds: Iterable[float], levels: _Signal | float = 1.0
) -> _Signal:
    """Return a clip with an event at each onset."""
    onsets = np.round(np.asarray(onsets_seconds) * SAMPLE_RATE_HZ).astype(int)
    impulses = np.zeros(_NUM_SAMPLES)
    impulses[onsets] = levels
    return _convolve(impulses, event)


def _convolve(signal: _Signal | NDArray[np.bool_], kernel: _Signal) -> _Signal:
    """Return the convolution of a clip with a kernel, cut to the clip's length."""
    size = 2 * _NUM_SAMPLES
    spectrum = np.fft.rfft(signal, size) * np.fft.rfft(kernel, size)
    return np.fft.irfft(spectrum, size)[:_NUM_SAMPLES]
