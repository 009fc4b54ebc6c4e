"""What waits between the thread that captures and the one that listens."""

import threading
from collections import deque

from edge.sources.base import Gap
from edge.types import FloatArray

_DROPPED = "the listener fell behind"


class Backlog:
    """A queue of chunks and gaps that holds so much sound and no more.

    Args:
        limit_samples: the most that it holds.
        sample_rate_hz: rate of the chunks.
    """

    def __init__(self, limit_samples: int, sample_rate_hz: int) -> None:
        self._limit = limit_samples
        self._rate = sample_rate_hz
        self._items: deque[FloatArray | Gap] = deque()
        self._samples = 0
        self._closed = False
        self._failure: Exception | None = None
        self._changed = threading.Condition()

    def put(self, item: FloatArray | Gap, wait: bool = False) -> None:
        """Add the next item; gaps that meet become one.

        Args:
            item: a chunk or a gap.
            wait: where the backlog is full, wait until it is not (or `close`), instead of dropping
                what is oldest and leaving a gap in its place.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._samples < self._limit or self._closed)
            if self._closed:
                return
            if isinstance(item, Gap):
                if self._items and isinstance(last := self._items[-1], Gap):
                    item = Gap(last.seconds + item.seconds, last.reason)
                    self._items.pop()
            else:
                self._samples += item.size
            self._items.append(item)
            if not wait:
                self._drop()
            self._changed.notify_all()

    def get(self, timeout_seconds: float) -> FloatArray | Gap | None:
        """Take the oldest item.

        Returns:
            None if none has come within the timeout, or the backlog is closed.

        Raises:
            Exception: what `close` was given, after the last item.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_seconds)
            if not self._items:
                if self._failure:
                    raise self._failure
                return None
            item = self._items.popleft()
            if not isinstance(item, Gap):
                self._samples -= item.size
            self._changed.notify_all()
            return item

    @property
    def ended(self) -> bool:
        """Nothing is left and nothing will come."""
        return self._closed and not self._items

    def close(self, failure: Exception | None = None, discard: bool = False) -> None:
        """Nothing comes after this.

        Args:
            failure: raise it in `get` after the last item.
            discard: forget what is in it.
        """
        with self._changed:
            self._closed, self._failure = True, failure
            if discard:
                self._items.clear()
                self._samples = 0
            self._changed.notify_all()

    def _drop(self) -> None:
        """Turn the oldest items into a gap, until the rest is within the limit."""
        if self._samples <= self._limit:
            return
        seconds = 0.0
        while self._items and (self._samples > self._limit or isinstance(self._items[0], Gap)):
            item = self._items.popleft()
            if isinstance(item, Gap):
                seconds += item.seconds
            else:
                seconds += item.size / self._rate
                self._samples -= item.size
        self._items.appendleft(Gap(seconds, _DROPPED))
