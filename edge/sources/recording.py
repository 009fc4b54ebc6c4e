"""A source that has an end."""

from collections.abc import Generator
from typing import Generic, Self, TypeVar

import numpy as np

from edge.types import FloatArray

_Item = TypeVar("_Item")


class Recording(Generic[_Item]):
    """Gives what a recording holds until its end, or until `close`.

    Args:
        items: chunks, as `edge.sources.base.Source` has them; and gaps, if there may be some.
    """

    def __init__(self, items: Generator[_Item, None, None]) -> None:
        self._items = items
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        if self._closed:
            # Only here, in the reading thread, is the generator sure to be idle.
            self._items.close()
        return next(self._items)

    def close(self) -> None:
        """Stop, from any thread; a read that waits for a pipe ends when something comes."""
        self._closed = True


def mono(frames: FloatArray) -> FloatArray:
    """Average the channels of (frames, channels), into new memory."""
    if frames.shape[1] == 1:
        return frames[:, 0].copy()
    samples: FloatArray = frames.mean(axis=1, dtype=np.float32)
    return samples
