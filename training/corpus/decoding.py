"""Decoding of one file to 16-bit mono samples without silence, and what the builder needs of it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.types import FloatArray
from semanticac_keras.sound_files import (
    SoundFileError,
    peak_of,
    read_header,
    read_waveform,
    resample,
)
from training.inspection.fingerprints import SAMPLE_RATE_HZ as TRACK_RATE_HZ
from training.inspection.fingerprints import Fingerprint, track

Samples = npt.NDArray[np.int16]

SAMPLE_RATE_HZ = 32_000
# Changes whenever the samples or tracks of a file would.
VERSION = 1

# No more of one file is read: one long recording has little variety.
MAX_SECONDS = 600.0
MIN_SECONDS = 0.1
# Of a piece of music and of a speech, at most this much from its middle.
LONGEST_SECONDS = {"music": 30.0, "speech": 30.0}
# Sound this quiet for this long is cut out, but for a margin on both sides.
SILENCE_DBFS = -65.0
MAX_SILENCE_SECONDS = 0.5
_MARGIN_SECONDS = 0.1
_FRAME = 320
_FULL_SCALE = 32_767

# The class of a waveform at `SAMPLE_RATE_HZ`; see `classes.py`.
Classify = Callable[[FloatArray], int]


@dataclass(frozen=True)
class Decoded:
    """The sound of one file.

    Args:
        path: path in the source.
        samples: int16 (num_samples,) at `SAMPLE_RATE_HZ`.
        track: its cells; see `training.inspection.fingerprints.track`.
        file_rate_hz: sample rate of the file.
        sound_class: index of a tagger's class, -1 without a tagger.
    """

    path: str
    samples: Samples
    track: Fingerprint
    file_rate_hz: int
    sound_class: int

    @property
    def digest(self) -> str:
        """SHA-256 of the samples."""
        return hashlib.sha256(self.samples.tobytes()).hexdigest()


def decode(folder: Path, path: str, kind: str, classify: Classify | None = None) -> Decoded:
    """Decode a file, cut its silence, and compute its track and class.

    Args:
        folder: root of the source.
        path: path of the file in it.
        kind: its kind by the manifest.
        classify: a tagger's judgement of a waveform, if any.

    Raises:
        SoundFileError: if the file is damaged, or is silent or too short.
    """
    file = folder / path
    header = read_header(file)
    seconds = min(header.duration_seconds, LONGEST_SECONDS.get(kind, MAX_SECONDS))
    start = (header.duration_seconds - seconds) / 2 if kind in LONGEST_SECONDS else 0.0
    waveform = read_waveform(file, SAMPLE_RATE_HZ, (start, start + seconds))
    waveform = without_silence(waveform)
    if len(waveform) < MIN_SECONDS * SAMPLE_RATE_HZ:
        raise SoundFileError("silent or too short")
    waveform = waveform / max(1.0, peak_of(waveform))
    cells = track(resample(waveform, SAMPLE_RATE_HZ, TRACK_RATE_HZ))
    return Decoded(
        path,
        np.rint(waveform * _FULL_SCALE).astype(np.int16),
        cells,
        header.sample_rate_hz,
        -1 if classify is None else classify(waveform),
    )


def without_silence(waveform: FloatArray) -> FloatArray:
    """Cut long silences out of a waveform at `SAMPLE_RATE_HZ`, also at its ends."""
    frames = -(-len(waveform) // _FRAME)
    padded = np.pad(waveform, (0, frames * _FRAME - len(waveform))).reshape(frames, _FRAME)
    power = np.einsum("ij,ij->i", padded, padded) / _FRAME
    loud = np.flatnonzero(power > 10 ** (SILENCE_DBFS / 10))
    if not len(loud):
        return waveform[:0]
    margin = round(_MARGIN_SECONDS * SAMPLE_RATE_HZ / _FRAME)
    longest = round(MAX_SILENCE_SECONDS * SAMPLE_RATE_HZ / _FRAME)
    gaps = np.flatnonzero(np.diff(loud) > longest)
    starts = loud[np.concatenate([[0], gaps + 1])]
    stops = loud[np.concatenate([gaps, [len(loud) - 1]])] + 1
    return np.concatenate(
        [
            waveform[max(0, start - margin) * _FRAME : (stop + margin) * _FRAME]
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]
    )
