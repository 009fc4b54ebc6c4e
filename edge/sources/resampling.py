"""Sample rate conversion of a stream."""

import numpy as np

from edge.types import FloatArray


class Resampler:
    """Resamples a stream that arrives in chunks; the result does not depend on the chunks.

    Args:
        from_rate_hz: input rate.
        to_rate_hz: output rate; if it equals the input rate, samples pass through unchanged.

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
        """Add samples (n,) and return the output so far, which lags slightly behind."""
        if self._stream is None:
            return chunk
        resampled: FloatArray = self._stream.resample_chunk(chunk)
        return resampled

    def flush(self) -> FloatArray:
        """End the stream and return the rest of it; the next `push` starts a new one."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        tail: FloatArray = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream.clear()
        return tail
