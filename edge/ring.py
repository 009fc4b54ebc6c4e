"""A fixed memory of the newest rows of a stream."""

import numpy as np

from edge.frontend import FloatArray


class Ring:
    """Keeps the newest `size` rows; every row is written twice so that a window is one view.

    Args:
        size: rows in a window.
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

    def window(self) -> FloatArray:
        """The newest rows in order, shape (size, *row_shape): a view, valid until `append`.

        Raises:
            ValueError: if fewer than `size` rows have been appended.
        """
        if self.seen < self.size:
            raise ValueError(f"a window needs {self.size} rows. Received: {self.seen} so far.")
        start = self.seen % self.size
        return self._buffer[start : start + self.size]

    def reset(self) -> None:
        """Forget all rows."""
        self.seen = 0
