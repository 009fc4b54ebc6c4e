"""A fixed-size buffer of the newest rows of a stream."""

from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Ring(Generic[_Scalar]):
    """Keeps the newest `size` rows of a stream, addressed by their position in it.

    Every row is stored twice, so that any stretch is one contiguous view.

    Args:
        size: rows to keep.
        dtype: scalar type of the rows.
        row_shape: shape of a row: `()` for samples, `(num_mels,)` for log-mel frames.

    Attributes:
        seen: length of the stream so far, in rows: those appended and those skipped.
    """

    def __init__(self, size: int, dtype: type[_Scalar], row_shape: tuple[int, ...] = ()) -> None:
        self.size = size
        self.seen = 0
        self._first = 0  # row after the last skip
        self._buffer = np.zeros((2 * size, *row_shape), dtype)

    @property
    def oldest(self) -> int:
        """Position of the oldest row in the buffer."""
        return max(self._first, self.seen - self.size)

    def append(self, rows: npt.NDArray[_Scalar]) -> None:
        """Add the next rows, shape (n, *row_shape), any n."""
        self.seen += len(rows)
        rows = rows[-self.size :]
        start = (self.seen - len(rows)) % self.size
        before_wrap = min(len(rows), self.size - start)
        for copy in (self._buffer[: self.size], self._buffer[self.size :]):
            copy[start : start + before_wrap] = rows[:before_wrap]
            copy[: len(rows) - before_wrap] = rows[before_wrap:]

    def skip(self, count: int) -> None:
        """Advance the stream by `count` missing rows and drop the rows before them."""
        self.seen += count
        self._first = self.seen

    def rows(self, start: int, stop: int) -> npt.NDArray[_Scalar]:
        """Rows `start` to `stop` of the stream, (stop - start, *row_shape): a view until `append`.

        Raises:
            ValueError: if one of them has not arrived yet or is no longer in the buffer.
        """
        if not self.oldest <= start <= stop <= self.seen:
            raise ValueError(
                f"rows must be in {self.oldest} .. {self.seen}. Received: {start} to {stop}."
            )
        first = start % self.size
        return self._buffer[first : first + stop - start]

    def available(self, start: int, stop: int) -> npt.NDArray[_Scalar]:
        """The part of rows `start` to `stop` that is in the buffer, maybe none: a view as above."""
        start = min(max(start, self.oldest), self.seen)
        return self.rows(start, max(start, min(stop, self.seen)))

    def reset(self) -> None:
        """Forget all rows; the next one is row 0."""
        self.seen = self._first = 0
