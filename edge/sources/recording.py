"""A source with an end."""

from collections.abc import Generator
from typing import Generic, Self, TypeVar

_Item = TypeVar("_Item")


class Recording(Generic[_Item]):
    """Yields the items of a recording until its end or `close`.

    Args:
        items: chunks as in `edge.sources.base.Source`, and possibly gaps.
    """

    def __init__(self, items: Generator[_Item, None, None]) -> None:
        self._items = items
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        if self._closed:
            # Only in the reading thread is the generator guaranteed to be idle.
            self._items.close()
        return next(self._items)

    def close(self) -> None:
        """Stop, from any thread; a blocked read of a pipe ends when data arrives."""
        self._closed = True
