"""Listeners for tests: collect the items of a source."""

import threading
import time
from collections.abc import Callable

import numpy as np

from edge.sources import Gap, Source, SourceError
from edge.types import FloatArray

# Chunks arrive every 0.1 s, or in bursts.
_PAUSE_SECONDS = 0.03


def drain(source: Source) -> tuple[FloatArray, SourceError | None]:
    """All samples of a source without gaps, and the error that ended it, if any."""
    chunks, failure = [np.zeros(0, np.float32)], None
    try:
        for chunk in source:
            assert isinstance(chunk, np.ndarray)
            assert chunk.dtype == np.float32
            assert chunk.ndim == 1
            chunks.append(chunk)
    except SourceError as error:
        failure = error
    return np.concatenate(chunks), failure


class Listening:
    """Listens to a source in a thread, from `__enter__` to `__exit__`.

    Attributes:
        items: chunks and gaps, each with the monotonic time of its arrival.
        longest_pause_seconds: longest time between two items.
        failure: the exception that the source raised.
        started_at: monotonic time of the start.
        stall: while this event is cleared, no items are taken.
    """

    def __init__(self, source: Source, sample_rate_hz: int) -> None:
        self._source = source
        self._rate = sample_rate_hz
        self._thread = threading.Thread(target=self._listen)
        self.items: list[tuple[float, FloatArray | Gap]] = []
        self.longest_pause_seconds = 0.0
        self.failure: Exception | None = None
        self.started_at = 0.0
        self.stall = threading.Event()
        self.stall.set()

    def __enter__(self) -> "Listening":
        self.started_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stall.set()
        self._source.close()
        self._thread.join(5)
        assert not self._thread.is_alive(), "the source does not end"

    def close(self) -> None:
        """Close the source from the calling thread."""
        self._source.close()

    def wait(self, condition: Callable[[], bool], timeout_seconds: float = 15.0) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            assert self._thread.is_alive(), f"the source ended: {self.failure}"
            assert time.monotonic() < deadline, f"timed out; gaps: {self.gaps}"
            time.sleep(0.01)

    def wait_for_sound(self, seconds: float = 0.3) -> tuple[float, float]:
        """Wait until `seconds` more sound has arrived, and then for a pause between two chunks.

        Returns:
            The monotonic time of the last chunk's arrival, and the stream's time.
        """
        samples = self.samples.size
        self.wait(
            lambda: (
                self.samples.size >= samples + seconds * self._rate
                and time.monotonic() - self.items[-1][0] > _PAUSE_SECONDS
            )
        )
        return self.position

    def wait_for_end(self, timeout_seconds: float = 15.0) -> None:
        """Wait until the source ends by itself."""
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), "the source does not end"

    @property
    def samples(self) -> FloatArray:
        """All samples so far."""
        chunks = [item for _, item in self.items if not isinstance(item, Gap)]
        return np.concatenate([np.zeros(0, np.float32), *chunks])

    @property
    def gaps(self) -> list[Gap]:
        """All gaps so far."""
        return [item for _, item in self.items if isinstance(item, Gap)]

    @property
    def position(self) -> tuple[float, float]:
        """Arrival time of the last chunk with samples, and the stream's time at its end."""
        items = list(self.items)
        while items and (isinstance(items[-1][1], Gap) or items[-1][1].size == 0):
            items.pop()
        seconds = sum(
            item.seconds if isinstance(item, Gap) else item.size / self._rate for _, item in items
        )
        return (items[-1][0] if items else self.started_at), seconds

    def _listen(self) -> None:
        last = time.monotonic()
        try:
            for item in self._source:
                now = time.monotonic()
                self.longest_pause_seconds = max(self.longest_pause_seconds, now - last)
                assert isinstance(item, Gap) or (item.dtype == np.float32 and item.ndim == 1)
                self.items.append((now, item))
                self.stall.wait()
                last = time.monotonic()
        except Exception as error:
            self.failure = error
