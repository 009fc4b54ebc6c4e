"""Where sound comes from: each source is an iterator of mono float32 chunks at the model's rate.

A source that fails midway first gives what it has, then raises `SourceError`.
"""

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from edge.frontend import FloatArray
from edge.sources.base import SourceError

if TYPE_CHECKING:
    from soundfile import SoundFile

_FILE_BLOCK_SECONDS = 0.5
# A pipe may be live: short reads keep the delay short.
_PCM_BLOCK_SECONDS = 0.1
# Type and full scale.
_PCM_FORMATS = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}

# libsndfile's log of a header that promises more than the file holds.
_PROMISED_BYTES = re.compile(r": (\d+) \(should be (\d+)\)")
# Recorders that write to a pipe put sizes from about 2 GiB up for "unknown".
_UNKNOWN_BYTES = 0x7FFF_0000


def file_source(path: str | os.PathLike[str], sample_rate_hz: int) -> Iterator[FloatArray]:
    """Stream an audio file (WAV, FLAC, OGG, MP3, ...), a block at a time.

    Args:
        path: the file; its channels are averaged.
        sample_rate_hz: rate of the chunks.

    Returns:
        Iterator of float32 chunks, shape (samples,), about half a second each. It raises
        `SourceError` where the file is damaged or ends before its header says (an OGG does not
        say, it is read as far as it goes).

    Raises:
        SourceError: if the file is missing or no audio.
    """
    import soundfile

    if not os.path.isfile(path):
        raise SourceError(f"No audio file at {path}.")
    try:
        sound = soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        raise SourceError(f"{path} cannot be read as audio: {_reason(error)}") from error
    return _resampled(_file_blocks(sound), sound.samplerate, sample_rate_hz)


def pcm_source(
    stream: BinaryIO,
    sample_rate_hz: int,
    source_rate_hz: int,
    channels: int = 1,
    sample_format: Literal["s16le", "f32le"] = "s16le",
) -> Iterator[FloatArray]:
    """Stream raw interleaved samples, such as `arecord -t raw` pipes.

    Args:
        stream: binary stream; reads may end anywhere in a sample. An incomplete last sample is
            dropped.
        sample_rate_hz: rate of the chunks.
        source_rate_hz: rate of the stream.
        channels: interleaved channels, averaged.
        sample_format: `"s16le"` or `"f32le"` (full scale 1), little-endian.

    Returns:
        Iterator of float32 chunks, shape (samples,), about 0.1 s each. It raises `SourceError`
        where the stream fails.

    Raises:
        ValueError: if the format is unknown, or the rate or the channels are below 1.
    """
    if sample_format not in _PCM_FORMATS:
        raise ValueError(
            f"`sample_format` must be one of {', '.join(_PCM_FORMATS)}. Received: {sample_format}."
        )
    if source_rate_hz < 1 or channels < 1:
        raise ValueError(
            "`source_rate_hz` and `channels` must be at least 1. "
            f"Received: {source_rate_hz} and {channels}."
        )
    blocks = _pcm_blocks(stream, source_rate_hz, channels, *_PCM_FORMATS[sample_format])
    return _resampled(blocks, source_rate_hz, sample_rate_hz)


def _file_blocks(sound: "SoundFile") -> Iterator[FloatArray]:
    """Mono blocks at the file's own rate."""
    import soundfile

    with sound:
        block_frames = max(1, round(_FILE_BLOCK_SECONDS * sound.samplerate))
        buffer = np.empty((block_frames, sound.channels), np.float32)
        done, failure, ended = 0, "", False
        while not ended:
            try:
                frames = len(sound.read(out=buffer))
                ended = frames < block_frames
            except soundfile.SoundFileError as error:
                # The frames before the damage are in the buffer.
                frames = max(0, sound.tell() - done)
                failure, ended = f"is damaged: {_reason(error)}", True
            yield _mono(buffer[:frames], f"{sound.name} at {done / sound.samplerate:.2f} s")
            done += frames
        failure = failure or _cut_short(sound, done)
        if failure:
            raise SourceError(f"{sound.name} {failure}")


def _cut_short(sound: "SoundFile", frames: int) -> str:
    """Say how the file ends before its header promises, if it does."""
    if frames < sound.frames:
        return f"is cut short: its header promises {sound.frames} frames, {frames} are there."
    # For WAV, AIFF and AU libsndfile corrects `frames` to the file and leaves a note.
    for promised, held in _PROMISED_BYTES.findall(sound.extra_info):
        if int(held) < int(promised) < _UNKNOWN_BYTES:
            return f"is cut short: its header promises {promised} bytes, {held} are there."
    return ""


def _pcm_blocks(
    stream: BinaryIO, rate_hz: int, channels: int, dtype: str, full_scale: float
) -> Iterator[FloatArray]:
    """Mono blocks at the stream's own rate."""
    frame_bytes = np.dtype(dtype).itemsize * channels
    block_bytes = frame_bytes * max(1, round(_PCM_BLOCK_SECONDS * rate_hz))
    rest, done = b"", 0
    while True:
        try:
            data = stream.read(block_bytes)
        except OSError as error:
            raise SourceError(f"The PCM stream failed: {error.strerror or error}.") from error
        if not data:
            return
        data = rest + data
        frames = len(data) // frame_bytes
        rest = data[frames * frame_bytes :]
        samples = np.frombuffer(data, dtype, frames * channels).reshape(frames, channels)
        samples = samples.astype(np.float32) / np.float32(full_scale)
        yield _mono(samples, f"the PCM stream at {done / rate_hz:.2f} s")
        done += frames


def _mono(frames: FloatArray, where: str) -> FloatArray:
    """Average the channels of (frames, channels)."""
    samples: FloatArray = frames.mean(axis=1, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise SourceError(f"NaN or infinite samples in {where}.")
    return samples


def _resampled(
    blocks: Iterator[FloatArray], from_rate_hz: int, to_rate_hz: int
) -> Iterator[FloatArray]:
    """Change the rate; before an error comes through, the resampler gives what it holds."""
    if from_rate_hz == to_rate_hz:
        yield from blocks
        return
    import soxr

    resampler = soxr.ResampleStream(from_rate_hz, to_rate_hz, 1, dtype="float32", quality="HQ")
    failure = None
    try:
        for block in blocks:
            yield resampler.resample_chunk(block)
    except SourceError as error:
        failure = error
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if failure:
        raise failure


def _reason(error: Exception) -> str:
    """libsndfile's own words, on one line."""
    return " ".join(str(getattr(error, "error_string", error)).split())
