"""Measurements of each clip's sound."""

import hashlib
from dataclasses import dataclass

import numpy as np

from edge.types import FloatArray
from semanticac_keras.sound_files import read_samples, resample
from training.datasets.audio import read_clip
from training.datasets.base import AudioDataset, Clip, map_files
from training.inspection.fingerprints import SAMPLE_RATE_HZ, Fingerprint, fingerprint

# Samples in a run that count as clipping: equal, and at full scale of 8 or more bits.
CLIPPED_RUN = 4
FULL_SCALE = 0.99

_GENERATED_RATE_HZ = 32_000


@dataclass(frozen=True)
class Level:
    """Levels of one clip, of all its channels together.

    Args:
        peak: largest absolute sample.
        rms: root of the mean square.
        offset: mean sample, the DC offset.
        constant: whether all samples are equal: digital silence.
        clipped: whether there are `CLIPPED_RUN` equal samples in a row at full scale.
        content: digest of the samples.
    """

    peak: float
    rms: float
    offset: float
    constant: bool
    clipped: bool
    content: bytes


@dataclass(frozen=True, eq=False)
class Sound:
    """Level and fingerprint of one clip."""

    level: Level
    fingerprint: Fingerprint


def level_of(samples: FloatArray) -> Level:
    """Measure samples, shape (num_frames,) or (num_frames, num_channels)."""
    frames = samples.reshape(len(samples), -1)
    at_top = (frames[1:] == frames[:-1]) & (np.abs(frames[1:]) >= FULL_SCALE)
    pairs = CLIPPED_RUN - 1
    runs = np.logical_and.reduce([at_top[i : len(at_top) - pairs + 1 + i] for i in range(pairs)])
    return Level(
        peak=float(np.abs(frames).max()),
        rms=float(np.sqrt(np.mean(np.square(frames, dtype=np.float64)))),
        offset=float(frames.mean(dtype=np.float64)),
        constant=bool((frames == frames[0]).all()),
        clipped=bool(runs.any()),
        content=hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=16).digest(),
    )


def measure(dataset: AudioDataset, progress: bool = False) -> list[Sound]:
    """Measure all clips in threads; only one clip in each thread is in memory.

    Args:
        dataset: dataset to read.
        progress: whether to show a progress bar on stderr.

    Returns:
        One measurement per clip.

    Raises:
        DatasetError: if clips cannot be read. Counts all failures and names the first.
    """

    def of_clip(clip: Clip) -> Sound:
        samples, rate_hz = _samples(dataset, clip)
        mono = samples.mean(axis=1)
        return Sound(level_of(samples), fingerprint(resample(mono, rate_hz, SAMPLE_RATE_HZ)))

    return map_files(
        of_clip,
        dataset.clips,
        name_of=lambda clip: clip.name,
        description=f"Inspecting {dataset.name}",
        progress=progress,
    )


def _samples(dataset: AudioDataset, clip: Clip) -> tuple[FloatArray, int]:
    """Return samples (num_frames, num_channels) as stored, if files are read as they are."""
    if clip.path is not None and dataset.read is read_clip:
        return read_samples(clip.path, clip.segment)
    return dataset.read(clip, _GENERATED_RATE_HZ)[:, np.newaxis], _GENERATED_RATE_HZ
