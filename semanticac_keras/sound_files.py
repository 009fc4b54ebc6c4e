"""Reading of sound files as mono waveforms, with checks for damaged files."""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import soundfile
import soxr

from edge.types import FloatArray

# RAW has no header, so its encoding is unknown.
AUDIO_SUFFIXES = frozenset(
    {f".{name.lower()}" for name in soundfile.available_formats() if name != "RAW"}
    | {".aif", ".aifc", ".oga", ".opus"}
)

# Float samples lie within about ±1. A file beyond this was not scaled (16-bit integers stored as
# floats reach ±32,768) or is damaged; a loud recording stays far below.
MAX_AMPLITUDE = 100.0
# libsndfile 1.2.2 seeks wrongly within the last page of Vorbis, which lasts seconds at most.
_VORBIS_LEAD_SECONDS = 10
_UNKNOWN_FRAMES = 2**62  # libsndfile gives 2**63 - 1 for a FLAC written to a pipe


class SoundFileError(ValueError):
    """A sound file is missing, damaged or not scaled."""


@dataclass(frozen=True)
class AudioHeader:
    """Header of a sound file."""

    sample_rate_hz: int
    num_channels: int
    num_frames: int

    @property
    def duration_seconds(self) -> float:
        """Length of the sound in seconds."""
        return self.num_frames / self.sample_rate_hz

    def __str__(self) -> str:
        channels = "mono" if self.num_channels == 1 else f"{self.num_channels} channels"
        return f"{self.sample_rate_hz:,} Hz, {channels}, {self.num_frames:,} frames"


def load_audio(path: str | os.PathLike[str], sample_rate: int = 32_000) -> FloatArray:
    """Load a sound file as a waveform for `SemanticAC.predict`.

    Args:
        path: file in any format that libsndfile reads: WAV, FLAC, MP3, Ogg, AIFF and others.
        sample_rate: sample rate of the result in hertz; a model's is
            `model.front_end.sample_rate_hz`. Resampled with soxr HQ, as `librosa.load` does.

    Returns:
        float32 (samples,), mono: the mean of all channels.

    Raises:
        ValueError: if the file is missing, unreadable, truncated or empty, its samples are not
            finite or far outside [-1, 1], or the rate is not positive. Names the file.
    """
    if sample_rate <= 0:
        raise ValueError(f"`sample_rate` must be positive. Received: {sample_rate}")
    try:
        return read_waveform(Path(path), sample_rate)
    except SoundFileError as error:
        raise SoundFileError(f"{os.fspath(path)}: {error}") from error


def read_header(path: Path) -> AudioHeader:
    """Return a file's header without decoding its samples.

    Raises:
        SoundFileError: if the file is missing, unreadable, truncated or empty.
    """
    _check_not_truncated(path)
    try:
        with soundfile.SoundFile(path) as file:
            return _header(file)
    except (soundfile.SoundFileError, OSError) as error:
        raise SoundFileError(_reason(error)) from error


def read_waveform(
    path: Path, sample_rate_hz: int, segment: tuple[float, float] | None = None
) -> FloatArray:
    """Read a file as one channel at a sample rate, like `librosa.load`.

    Args:
        path: file in any format that libsndfile reads.
        sample_rate_hz: target sample rate; resampled with soxr HQ.
        segment: start and end in seconds; the whole file by default.

    Returns:
        float32 samples `(num_samples,)`, averaged over channels.

    Raises:
        SoundFileError: as for `read_samples`.
    """
    samples, file_rate_hz = read_samples(path, segment)
    waveform = resample(samples.mean(axis=1), file_rate_hz, sample_rate_hz)
    if len(waveform) == 0:
        raise SoundFileError(f"too short: {len(samples)} frames")
    return waveform


def read_samples(path: Path, segment: tuple[float, float] | None = None) -> tuple[FloatArray, int]:
    """Read a file, or decode only a segment of it, at its own sample rate.

    Args:
        path: file in any format that libsndfile reads.
        segment: start and end in seconds; the whole file by default.

    Returns:
        float32 samples `(num_frames, num_channels)`, and the sample rate in hertz.

    Raises:
        SoundFileError: as for `read_header`, and if samples are missing, NaN, infinite or unscaled.
    """
    _check_not_truncated(path)
    try:
        with soundfile.SoundFile(path) as file:
            header, format_name = _header(file), file.format
            start, stop = 0, header.num_frames
            if segment is not None:
                start, stop = segment_frames(segment, header)
            lead = _VORBIS_LEAD_SECONDS * header.sample_rate_hz if file.subtype == "VORBIS" else 0
            first = file.seek(max(0, start - lead)) if start and file.seekable() else 0
            samples = file.read(stop - first, dtype="float32", always_2d=True)[start - first :]
    except (soundfile.SoundFileError, OSError) as error:
        raise SoundFileError(_reason(error)) from error
    # The length of an MP3 without a Xing header is an estimate.
    if len(samples) < stop - start and format_name != "MP3":
        raise SoundFileError(
            f"truncated: {start + len(samples):,} of {header.num_frames:,} frames are readable"
        )
    if len(samples) == 0:
        raise SoundFileError("too short: 0 frames")
    check_amplitudes(samples)
    return samples, header.sample_rate_hz


def check_amplitudes(samples: FloatArray) -> None:
    """Reject samples that are not finite or lie far outside ±1.

    Raises:
        SoundFileError: if a sample is NaN, infinite or beyond `MAX_AMPLITUDE`.
    """
    peak = peak_of(samples)
    if not math.isfinite(peak):
        raise SoundFileError("contains NaN or infinite samples")
    if peak > MAX_AMPLITUDE:
        raise SoundFileError(
            f"has samples up to ±{peak:.3g}, but float samples must lie within about ±1; divide "
            "them by their full scale"
        )


def peak_of(samples: FloatArray) -> float:
    """Return the largest magnitude, without a copy of the samples; NaN if one is NaN."""
    return max(-float(samples.min()), float(samples.max())) if samples.size else 0.0


def resample(waveform: FloatArray, from_hz: int, to_hz: int) -> FloatArray:
    """Resample a mono waveform with soxr HQ."""
    if from_hz == to_hz:
        return waveform
    resampled: FloatArray = soxr.resample(waveform, from_hz, to_hz, quality="HQ")
    return resampled


def segment_frames(segment: tuple[float, float], header: AudioHeader) -> tuple[int, int]:
    """Return the first frame of a segment in seconds, and the one after its last."""
    start, stop = (round(seconds * header.sample_rate_hz) for seconds in segment)
    return start, min(stop, header.num_frames)


def _header(file: soundfile.SoundFile) -> AudioHeader:
    """Return the header of an open file; reject empty files and unknown lengths."""
    if file.frames == 0:
        raise SoundFileError("empty")
    if file.frames >= _UNKNOWN_FRAMES:
        raise SoundFileError("does not state its length; encode it again")
    return AudioHeader(file.samplerate, file.channels, file.frames)


def _reason(error: Exception) -> str:
    """Return libsndfile's message without the path, which the caller adds."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or ""
    text = text.removeprefix("Error : ").rstrip(".")
    return f"unreadable: {text}" if text else "unreadable"


def _check_not_truncated(path: Path) -> None:
    """Reject a WAV or AIFF with missing samples, which libsndfile would silently shorten."""
    try:
        with path.open("rb") as file:
            end, size = _end_of_samples(file), path.stat().st_size
    except FileNotFoundError as error:
        raise SoundFileError("missing") from error
    except OSError as error:
        raise SoundFileError(_reason(error)) from error
    if end > size:
        raise SoundFileError(f"truncated: {size:,} of {end:,} bytes are present")


def _end_of_samples(file: BinaryIO) -> int:
    """Return the end of the samples according to the header, or 0 if unknown."""
    form = file.read(12)[:4]
    if form not in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return 0
    chunk = struct.Struct("<4sI" if form in (b"RIFF", b"RF64") else ">4sI")
    long_size = 0
    while len(head := file.read(chunk.size)) == chunk.size:
        tag, size = chunk.unpack(head)
        if tag in (b"data", b"SSND"):
            if size == 0xFFFFFFFF:  # RF64 stores the size in ds64; a streamed WAV has none.
                size = long_size
            return file.tell() + int(size)
        if tag == b"ds64" and size >= 16:
            long_size = int.from_bytes(file.read(16)[8:], "little")
            size -= 16
        file.seek(size + size % 2, 1)
    return 0
