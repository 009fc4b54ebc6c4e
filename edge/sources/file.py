"""Audio files as a source."""

import os
import re
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from edge.sources.base import SourceError
from edge.sources.downmix import MIX, Downmix
from edge.sources.recording import Recording
from edge.sources.resampling import Resampler
from edge.types import FloatArray

if TYPE_CHECKING:
    from soundfile import SoundFile

_BLOCK_SECONDS = 0.5

# libsndfile's log entry for a header that announces more bytes than the file has.
_ANNOUNCED_BYTES = re.compile(r": (\d+) \(should be (\d+)\)")
# Recorders that write to a pipe use sizes from about 2 GiB up for "unknown".
_UNKNOWN_BYTES = 0x7FFF_0000


def file_source(
    path: str | os.PathLike[str], sample_rate_hz: int, channel: str = MIX
) -> Recording[FloatArray]:
    """Stream an audio file (WAV, FLAC, OGG, MP3, ...) block by block.

    Args:
        path: the file.
        sample_rate_hz: rate of the chunks.
        channel: `"mix"`, the mean of its channels; `"left"`, `"right"`, or a number from 1.

    Returns:
        Source of float32 chunks, shape (samples,), about half a second each. It raises
        `SourceError` where the file is damaged or shorter than its header announces (OGG headers
        have no length: a cut OGG file ends without an error).

    Raises:
        SourceError: if the file is missing or not audio.
        ValueError: if the channel is none of these.
    """
    import soundfile

    downmix = Downmix(channel)

    if not os.path.isfile(path):
        raise SourceError(f"No audio file at {path}.")
    try:
        sound = soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        raise SourceError(f"{path} cannot be read as audio: {_reason(error)}") from error
    return Recording(_chunks(sound, downmix, Resampler(sound.samplerate, sample_rate_hz)))


def _chunks(
    sound: "SoundFile", downmix: Downmix, resampler: Resampler
) -> Generator[FloatArray, None, None]:
    """Mono chunks at the resampler's output rate; its remaining samples come before a failure."""
    with closing(_blocks(sound, downmix)) as blocks:
        try:
            for block in blocks:
                yield resampler.push(block)
        except SourceError:
            yield resampler.flush()
            raise
    yield resampler.flush()


def _blocks(sound: "SoundFile", downmix: Downmix) -> Generator[FloatArray, None, None]:
    """Mono blocks at the file's own rate."""
    import soundfile

    with sound:
        block_frames = max(1, round(_BLOCK_SECONDS * sound.samplerate))
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
            if not np.isfinite(buffer[:frames]).all():
                place = f"{sound.name} at {done / sound.samplerate:.2f} s"
                raise SourceError(f"NaN or infinite samples in {place}.")
            yield downmix.push(buffer[:frames])
            done += frames
        failure = failure or _cut_short(sound, done)
        if failure:
            raise SourceError(f"{sound.name} {failure}")


def _cut_short(sound: "SoundFile", frames: int) -> str:
    """Describe how the file is shorter than its header announces; empty if it is complete."""
    if frames < sound.frames:
        return f"is cut short: its header announces {sound.frames} frames, the file has {frames}."
    # For WAV, AIFF and AU, libsndfile reduces `frames` to the file's size and logs that.
    for announced, actual in _ANNOUNCED_BYTES.findall(sound.extra_info):
        if int(actual) < int(announced) < _UNKNOWN_BYTES:
            return f"is cut short: its header announces {announced} bytes, the file has {actual}."
    return ""


def _reason(error: Exception) -> str:
    """libsndfile's message on one line."""
    return " ".join(str(getattr(error, "error_string", error)).split())
