"""Samples at one rate in, samples at another out."""

import numpy as np

from edge.types import FloatArray


class Resampler:
    """Changes the rate of a stream that arrives in chunks; they do not show in the result.

    Args:
        from_rate_hz: rate of what comes in.
        to_rate_hz: rate of what goes out; the same leaves the samples as they are.

    Raises:
        ImportError: if the rates differ and soxr is not installed.
    """

    def __init__(self, from_rate_hz: int, to_rate_hz: int) -> None:
        self._stream = None
        if from_rate_hz != to_rate_hz:
            import soxr

            self._stream = soxr.ResampleStream(
                from_rate_hz, to_rate_hz, 1, dtype="float32", quality="HQ"
            )

    def push(self, chunk: FloatArray) -> FloatArray:
        """Take the next samples (n,) and return what is now known, often a little less."""
        if self._stream is None:
            return chunk
        resampled: FloatArray = self._stream.resample_chunk(chunk)
        return resampled

    def flush(self) -> FloatArray:
        """End the stream and return what is left of it; the next `push` starts a new one."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        tail: FloatArray = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream.clear()
        return tail
