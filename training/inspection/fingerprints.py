"""Audio fingerprints: they find copies of a sound that were encoded, scaled or shifted.

A fingerprint holds how the difference between neighbouring mel bands changes from frame to frame:
a gain, an equaliser or a different envelope leaves it as it is, and two recordings of the same
kind of sound have nothing of it in common. Source of the idea: J. Haitsma and T. Kalker, A Highly
Robust Audio Fingerprinting System, ISMIR 2002.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge import FrontEnd, log_mel
from edge.types import FloatArray
from semanticac_keras.progress import progress_bar

Fingerprint = npt.NDArray[np.int8]

SAMPLE_RATE_HZ = 16_000
# Least similarity of a copy. Of 300 copies of ESC-50's clips (MP3 or Ogg Vorbis, up to 12 dB
# quieter, shifted by up to 0.24 s, or at 8 kHz), 296 have more; the medians are 0.83 to 0.95. Of
# the 2 million pairs of ESC-50 itself, five of different sources have more; the next has 0.45.
THRESHOLD = 0.55
# A copy may begin up to half a second earlier or later.
MAX_SHIFT_FRAMES = 10

_FRONT_END = FrontEnd(
    sample_rate_hz=SAMPLE_RATE_HZ,
    n_fft=4096,
    hop_length=800,
    num_mels=32,
    fmin_hz=200.0,
    fmax_hz=7000.0,
    window_seconds=5.0,
)
# Cells of one frame.
NUM_CELLS = _FRONT_END.num_mels - 1
_FRAMES = 100
_SHAPE = (_FRAMES, NUM_CELLS)
# Quieter cells of the spectrogram are noise of a codec.
_RANGE_DB = 50.0
_LARGEST_CHANGE_DB = 6.0
# A fingerprint with fewer cells, of a short click or of silence, would equal others by chance.
_MIN_CELLS = 100
_BLOCK = 512


class Pair(NamedTuple):
    """Two clips that sound the same: their indices, ascending, and their similarity up to 1."""

    first: int
    second: int
    similarity: float


def fingerprint(waveform: FloatArray) -> Fingerprint:
    """Return the fingerprint of a clip's first five seconds.

    Args:
        waveform: mono samples at `SAMPLE_RATE_HZ`, (num_samples,).

    Returns:
        int8 (100, 31), frames by pairs of bands; 0 where there is no sound.
    """
    cells = np.zeros(_SHAPE, np.int8)
    decibels = log_mel(waveform[: _FRONT_END.window_samples], _FRONT_END)[:_FRAMES]
    if len(decibels) > 1:
        cells[: len(decibels) - 1] = _changes(decibels, decibels.max())
    return cells


def track(waveform: FloatArray) -> Fingerprint:
    """Return the cells of a sound of any length, in which `fingerprint`'s can be looked for.

    Args:
        waveform: mono samples at `SAMPLE_RATE_HZ`, (num_samples,).

    Returns:
        int8 (frames, 31), 20 frames per second; 0 where there is no sound. A cell is audible beside
        the loudest one of the 5 s around it.
    """
    decibels = log_mel(waveform, _FRONT_END)
    if len(decibels) < 2:
        return np.zeros((0, NUM_CELLS), np.int8)
    half = _FRAMES // 2
    around = np.pad(decibels.max(axis=1), half, mode="edge")
    loudest = np.lib.stride_tricks.sliding_window_view(around, 2 * half + 1).max(axis=1)
    return _changes(decibels, loudest[:, np.newaxis])


def similar_pairs(
    fingerprints: Sequence[Fingerprint],
    threshold: float = THRESHOLD,
    progress: bool = False,
) -> list[Pair]:
    """Find the pairs of clips that are copies of each other.

    The similarity is the cosine of two fingerprints, at the best shift of up to half a second. The
    time grows with the square of the number of clips: 2,000 take seconds, 10,000 minutes.

    Args:
        fingerprints: results of `fingerprint`.
        threshold: least similarity.
        progress: whether to show a progress bar on stderr.

    Returns:
        All pairs, the most similar first.
    """
    if not fingerprints:
        return []
    cells = np.stack(fingerprints)
    lengths = np.linalg.norm(cells.reshape(len(cells), -1).astype(np.float32), axis=1)
    lengths[np.count_nonzero(cells, axis=(1, 2)) < _MIN_CELLS] = np.inf
    pairs = []
    with progress_bar("Comparing clips", len(cells), enabled=progress) as advance:
        for start in range(0, len(cells), _BLOCK):
            rows = slice(start, start + _BLOCK)
            for first_column in range(start, len(cells), _BLOCK):
                columns = slice(first_column, first_column + _BLOCK)
                found = _best_products(cells[rows], cells[columns])
                found /= lengths[rows, np.newaxis] * lengths[columns]
                for row, column in np.argwhere(found >= threshold):
                    first, second = start + int(row), first_column + int(column)
                    if first < second:
                        pairs.append(Pair(first, second, float(found[row, column])))
            advance(len(cells[rows]))
    return sorted(pairs, key=lambda pair: -pair.similarity)


def _changes(decibels: FloatArray, loudest: FloatArray | np.float32) -> Fingerprint:
    """Return the cells of neighbouring frames, one fewer than there are frames."""
    audible = decibels > loudest - _RANGE_DB
    changes = np.diff(np.diff(decibels, axis=1), axis=0) / _LARGEST_CHANGE_DB
    counted = audible[1:, 1:] & audible[1:, :-1] & audible[:-1, 1:] & audible[:-1, :-1]
    return np.rint(127 * np.where(counted, changes.clip(-1, 1), 0)).astype(np.int8)


def _best_products(some: Fingerprint, others: Fingerprint) -> FloatArray:
    """Return the largest product of each pair over all shifts, (len(some), len(others))."""
    best = np.full((len(some), len(others)), -np.inf, np.float32)
    still = others.reshape(len(others), -1).T.astype(np.float32)
    padded = np.pad(some, ((0, 0), (MAX_SHIFT_FRAMES, MAX_SHIFT_FRAMES), (0, 0)))
    for shift in range(2 * MAX_SHIFT_FRAMES + 1):
        moved = padded[:, shift : shift + _FRAMES].reshape(len(some), -1).astype(np.float32)
        np.maximum(best, moved @ still, out=best)
    return best
