"""Raw PCM samples from a pipe."""

from collections.abc import Generator
from typing import BinaryIO, Literal

import numpy as np

from edge.sources.base import Gap, SourceError
from edge.sources.downmix import MIX, Downmix
from edge.sources.recording import Recording
from edge.sources.resampling import Resampler
from edge.types import FloatArray

SampleFormat = Literal["s16le", "f32le"]

# A pipe may be live: short reads keep latency low.
_BLOCK_SECONDS = 0.1
# Sample type and full scale.
_FORMATS = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}


class PcmDecoder:
    """Decodes frames from bytes that may end anywhere in a sample.

    Args:
        channels: interleaved channels.
        sample_format: `"s16le"` or `"f32le"` (full scale 1), little-endian.
    """

    def __init__(self, channels: int, sample_format: SampleFormat) -> None:
        self._dtype, self._full_scale = _FORMATS[sample_format]
        self._channels = channels
        self._rest = b""
        self.frame_bytes = np.dtype(self._dtype).itemsize * channels

    def push(self, data: bytes) -> FloatArray:
        """Add bytes; return the frames they complete, float32 (frames, channels)."""
        data = self._rest + data
        frames = len(data) // self.frame_bytes
        self._rest = data[frames * self.frame_bytes :]
        samples = np.frombuffer(data, self._dtype, frames * self._channels)
        samples = samples.reshape(frames, self._channels)
        scaled = samples.astype(np.float32)
        scaled /= np.float32(self._full_scale)
        return scaled


def pcm_source(
    stream: BinaryIO,
    sample_rate_hz: int,
    source_rate_hz: int,
    channels: int = 1,
    sample_format: SampleFormat = "s16le",
    channel: str = MIX,
) -> Recording[FloatArray | Gap]:
    """Stream raw interleaved samples, such as `arecord -t raw` pipes.

    Args:
        stream: binary stream; reads may end anywhere in a sample. An incomplete last sample is
            dropped.
        sample_rate_hz: rate of the chunks.
        source_rate_hz: rate of the stream.
        channels: interleaved channels.
        sample_format: `"s16le"` or `"f32le"` (full scale 1), little-endian.
        channel: `"mix"`, the mean of the channels; `"left"`, `"right"`, or a number from 1.

    Returns:
        Source of float32 chunks, shape (samples,), about 0.1 s each. A gap replaces each chunk
        with NaN or infinity. It raises `SourceError` where the stream fails.

    Raises:
        ValueError: if the format or the channel is unknown, or the rate or number of channels is
            below 1.
    """
    if sample_format not in _FORMATS:
        raise ValueError(
            f"`sample_format` must be one of {', '.join(_FORMATS)}. Received: {sample_format}."
        )
    if source_rate_hz < 1 or channels < 1:
        raise ValueError(
            "`source_rate_hz` and `channels` must be at least 1. "
            f"Received: {source_rate_hz} and {channels}."
        )
    decoder = PcmDecoder(channels, sample_format)
    resampler = Resampler(source_rate_hz, sample_rate_hz)
    return Recording(_chunks(stream, source_rate_hz, decoder, Downmix(channel), resampler))


def _chunks(
    stream: BinaryIO, rate_hz: int, decoder: PcmDecoder, downmix: Downmix, resampler: Resampler
) -> Generator[FloatArray | Gap, None, None]:
    """Mono chunks at the resampler's output rate."""
    block_bytes = decoder.frame_bytes * max(1, round(_BLOCK_SECONDS * rate_hz))
    while True:
        try:
            data = stream.read(block_bytes)
        except OSError as error:
            yield resampler.flush()
            raise SourceError(f"The PCM stream failed: {error.strerror or error}.") from error
        if not data:
            break
        frames = decoder.push(data)
        if np.isfinite(frames).all():
            yield resampler.push(downmix.push(frames))
        else:
            yield resampler.flush()
            yield Gap(len(frames) / rate_hz, "NaN or infinite samples")
    yield resampler.flush()
