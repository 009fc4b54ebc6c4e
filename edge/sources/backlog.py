"""A bounded queue between the capturing thread and the listening one."""

import threading
from collections import deque

from edge.sources.base import Gap
from edge.types import FloatArray

_DROPPED = "the listener fell behind"


class Backlog:
    """A queue of chunks and gaps that holds a limited amount of sound.

    Args:
        limit_samples: largest number of samples in the queue.
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
        """Add the next item; adjacent gaps are merged.

        Args:
            item: a chunk or a gap.
            wait: if the queue is full, wait until it has room or is closed, instead of replacing
                the oldest items by a gap.
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
        """Remove and return the oldest item.

        Returns:
            The item; None if none arrived within the timeout, or the queue is closed and empty.

        Raises:
            Exception: the failure passed to `close`, after the last item.
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
        """Whether the queue is closed and empty."""
        return self._closed and not self._items

    def close(self, failure: Exception | None = None, discard: bool = False) -> None:
        """Accept no more items.

        Args:
            failure: exception that `get` raises after the last item.
            discard: drop the items in the queue.
        """
        with self._changed:
            self._closed, self._failure = True, failure
            if discard:
                self._items.clear()
                self._samples = 0
            self._changed.notify_all()

    def _drop(self) -> None:
        """Replace the oldest items by a gap until the rest is within the limit."""
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
