"""A fixed memory of the newest rows of a stream."""

import numpy as np

from edge.types import FloatArray


class Ring:
    """Keeps the newest `size` rows; every row is written twice so that any stretch is one view.

    Args:
        size: rows to keep.
        row_shape: shape of a row: `()` for samples, `(num_mels,)` for log-mel frames.

    Attributes:
        seen: rows appended so far.
    """

    def __init__(self, size: int, row_shape: tuple[int, ...] = ()) -> None:
        self.size = size
        self.seen = 0
        self._buffer = np.zeros((2 * size, *row_shape), np.float32)

    def append(self, rows: FloatArray) -> None:
        """Add the next rows, shape (n, *row_shape), any n."""
        self.seen += len(rows)
        rows = rows[-self.size :]
        start = (self.seen - len(rows)) % self.size
        before_wrap = min(len(rows), self.size - start)
        for copy in (self._buffer[: self.size], self._buffer[self.size :]):
            copy[start : start + before_wrap] = rows[:before_wrap]
            copy[: len(rows) - before_wrap] = rows[before_wrap:]

    def rows(self, start: int, stop: int) -> FloatArray:
        """Rows `start` to `stop` of the stream, (stop - start, *row_shape): a view until `append`.

        Raises:
            ValueError: if one of them is not there yet, or no longer.
        """
        oldest = max(0, self.seen - self.size)
        if not oldest <= start <= stop <= self.seen:
            raise ValueError(
                f"rows must be in {oldest} .. {self.seen}. Received: {start} to {stop}."
            )
        first = start % self.size
        return self._buffer[first : first + stop - start]

    def reset(self) -> None:
        """Forget all rows."""
        self.seen = 0
