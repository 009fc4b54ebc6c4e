"""Detection of missing sound in a live stream by the clock."""

import statistics
import time

from edge.sources.base import Gap
from edge.types import FloatArray

# Quartz is accurate to 100 ppm, cheap sound cards to a few hundred: a lag that changes faster is
# loss.
_DRIFT = 1e-3
# Lags this close count as equal.
_NEAR_SECONDS = 0.05
# Bounds the memory, however fast sound arrives.
_MAX_HELD_SECONDS = 60.0
_LOST = "samples were lost"


def clock() -> float:
    """Monotonic time in seconds that includes the time the machine was suspended."""
    # On Linux, Python's monotonic clock stops during suspension.
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


class Timeline:
    """Inserts gaps between the chunks of a live stream, so that its time keeps up with the clock.

    The lag of a chunk is the clock's time minus the stream's time (chunks and gaps) at the end of
    the chunk. Three causes change it, each in its own way:

    - A busy machine delivers late. The lag jumps up and returns to normal with the backlog, which
      arrives as fast as it can be read.
    - The sound card's clock drifts. The lag changes slowly, by less than one in a thousand, and the
      usual lag follows it no faster.
    - Sound is lost. The lag rises and stays.

    So a chunk whose lag exceeds the usual lag by more than `tolerance_seconds` is held back, with
    the chunks after it. If the lag returns to normal, they were late. If it does not within
    `settle_seconds`, its minimum in that time tells how much is missing, and the gap goes before
    the first chunk with about this lag. Losses below the tolerance accumulate until they exceed it.

    The first chunks of a connection are held back for `settle_seconds` too: the first may have
    waited in a buffer.

    Args:
        now: the clock's time. The stream starts then if the first connection fails, and with its
            first chunk otherwise.
        tolerance_seconds: more than the usual jitter of the lag, about a block; infinite if late
            chunks never mean loss.
        settle_seconds: longer than it takes to read a backlog.
    """

    def __init__(self, now: float, tolerance_seconds: float, settle_seconds: float) -> None:
        self._tolerance = tolerance_seconds
        self._settle = settle_seconds
        self._zero = now
        self._stream_seconds = 0.0
        self._usual_lag = 0.0
        self._connected = False
        self._interruption: str | None = None
        self._held: list[tuple[FloatArray, float]] = []
        self._held_since = now
        self._held_seconds = 0.0

    def push(self, now: float, chunk: FloatArray, seconds: float) -> list[FloatArray | Gap]:
        """Add the next chunk.

        Args:
            now: the clock's time when the chunk arrived.
            chunk: samples at any rate.
            seconds: duration of the chunk.

        Returns:
            The items released by now: unchanged chunks, and gaps.
        """
        if not self._connected and self._interruption is None and not self._held:
            self._zero = now - seconds
        self._stream_seconds += seconds
        lag = self._lag(now)
        in_time = self._connected and lag - self._usual_lag <= self._tolerance
        if in_time and not self._held:
            step = _DRIFT * seconds
            self._usual_lag += min(max(lag - self._usual_lag, -step), step)
            return [chunk]
        if not self._held:
            self._held_since = now
        self._held.append((chunk, lag))
        self._held_seconds += seconds
        if in_time:
            return self._release()
        settled = now - self._held_since >= self._settle
        return self._conclude() if settled or self._held_seconds > _MAX_HELD_SECONDS else []

    def interrupt(self, now: float, reason: str) -> list[FloatArray | Gap]:
        """Record that the connection was lost or could not be made.

        Args:
            now: the clock's time.
            reason: reason of the gap.

        Returns:
            The chunks held back and, if there was a connection, the gap so far. The rest becomes
            another gap before the next chunk.
        """
        items = self.end()
        if self._connected:
            self._connected, self._interruption = False, reason
            items.append(self._gap(self._lag(now) - self._usual_lag, reason))
        elif self._interruption is None:
            self._interruption = reason
        return items

    def end(self) -> list[FloatArray | Gap]:
        """End the connection and return the chunks held back."""
        return self._conclude() if self._held else []

    def _lag(self, now: float) -> float:
        return now - self._zero - self._stream_seconds

    def _conclude(self) -> list[FloatArray | Gap]:
        """Release the chunks held back, with a gap if the settled lag shows a loss."""
        near = min(lag for _, lag in self._held) + _NEAR_SECONDS
        settled = statistics.median(lag for _, lag in self._held if lag <= near)
        first, self._connected = not self._connected, True
        if first and self._interruption is None:
            self._usual_lag = settled
            return self._release()
        place, reason = 0, self._interruption or ""
        if not first:
            place = next(i for i, (_, lag) in enumerate(self._held) if lag <= near)
            reason = _LOST
        items = self._release()
        items.insert(place, self._gap(settled - self._usual_lag, reason))
        return items

    def _release(self) -> list[FloatArray | Gap]:
        chunks: list[FloatArray | Gap] = [chunk for chunk, _ in self._held]
        self._held.clear()
        self._held_seconds = 0.0
        return chunks

    def _gap(self, seconds: float, reason: str) -> Gap:
        # A stream that catches up may have a negative lag; it was still interrupted.
        seconds = max(seconds, 0.0)
        self._stream_seconds += seconds
        return Gap(seconds, reason)
