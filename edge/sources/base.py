"""The interface of sources: chunks of samples, and gaps where sound is missing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from edge.types import FloatArray


class SourceError(Exception):
    """A source is missing, unreadable, or ended too early."""


@dataclass(frozen=True)
class Gap:
    """Missing sound between the previous chunk and the next.

    Args:
        seconds: its duration by the monotonic clock.
        reason: the cause in a few words, for people.
    """

    seconds: float
    reason: str


class Source(Protocol):
    """A stream of mono float32 chunks (samples,) at the model's rate, full scale 1.

    A live source yields at least every half second, if need be an empty chunk, so that the listener
    can do other things. A recording ends; a live source continues until `close`. A source that
    fails permanently yields the sound it has, then raises `SourceError`.
    """

    def __iter__(self) -> Iterator[FloatArray | Gap]:
        """Start the source; call it once."""

    def close(self) -> None:
        """Stop, from any thread: the iterator ends soon. Releases devices and processes."""
