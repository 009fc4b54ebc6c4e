"""What every source of sound gives: chunks of samples, and gaps where it has none."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from edge.types import FloatArray


class SourceError(Exception):
    """A source is missing, unreadable, or ended before it should."""


@dataclass(frozen=True)
class Gap:
    """Sound that is missing between the chunk before and the next one.

    Args:
        seconds: its length by the monotonic clock.
        reason: what happened, in a few words, for people.
    """

    seconds: float
    reason: str


class Source(Protocol):
    """A stream of mono float32 chunks (samples,) at the model's rate, full scale 1.

    A live source yields at least every half second, be it a chunk without samples, so that whoever
    listens can do other things. A recording ends; a live source goes on until `close`. A source
    that fails for good first gives what it has, then raises `SourceError`.
    """

    def __iter__(self) -> Iterator[FloatArray | Gap]:
        """Start; once."""

    def close(self) -> None:
        """Stop, from any thread: the iterator ends soon. Devices and processes are released."""
