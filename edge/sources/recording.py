"""A source that has an end."""

from collections.abc import Generator

import numpy as np

from edge.frontend import FloatArray
from edge.sources.base import SourceError
from edge.sources.resampling import Resampler


class Recording:
    """Gives the chunks of a recording until its end, or until `close`.

    Args:
        blocks: mono float32 samples (samples,) at the recording's own rate. Where it raises
            `SourceError`, what the resampler holds comes first.
        from_rate_hz: that rate.
        to_rate_hz: rate of the chunks.
    """

    def __init__(
        self, blocks: Generator[FloatArray, None, None], from_rate_hz: int, to_rate_hz: int
    ) -> None:
        self._blocks = blocks
        self._resampler = Resampler(from_rate_hz, to_rate_hz)
        self._failure: SourceError | None = None
        self._ended = False
        self._closed = False

    def __iter__(self) -> "Recording":
        return self

    def __next__(self) -> FloatArray:
        if self._closed:
            # Only here, in the reading thread, is the generator sure to be idle.
            self._blocks.close()
            raise StopIteration
        if self._ended:
            if self._failure:
                raise self._failure
            raise StopIteration
        try:
            return self._resampler.push(next(self._blocks))
        except StopIteration:
            pass
        except SourceError as failure:
            self._failure = failure
        self._ended = True
        return self._resampler.flush()

    def close(self) -> None:
        """Stop, from any thread; a read that waits for a pipe ends when something comes."""
        self._closed = True


def mono(frames: FloatArray, where: str) -> FloatArray:
    """Average the channels of (frames, channels).

    Raises:
        SourceError: if a sample is not finite.
    """
    samples: FloatArray = frames.mean(axis=1, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise SourceError(f"NaN or infinite samples in {where}.")
    return samples
