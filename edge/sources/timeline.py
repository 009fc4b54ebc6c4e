"""What is missing from a live stream, found by the clock."""

import statistics
import time

from edge.sources.base import Gap
from edge.types import FloatArray

# Quartz is right to 100 ppm, cheap sound cards to a few hundred: a lag that moves faster is loss.
_DRIFT = 1e-3
# Lags this close are the same one.
_NEAR_SECONDS = 0.05
# However fast it comes: there is memory for so much.
_MOST_HELD_SECONDS = 60.0
_LOST = "samples were lost"


def clock() -> float:
    """Seconds that no one sets and that count while the machine sleeps."""
    # Python's monotonic clock stands still meanwhile on Linux.
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


class Timeline:
    """Puts gaps between the chunks of a live stream, so that its time keeps up with the clock.

    The lag of a chunk is the clock's time less the stream's at its end: chunks and gaps so far.
    Three things move it, each in its own way:

    - A busy machine delivers late. The lag jumps up and comes back with the backlog, which arrives
      as fast as it can be read.
    - The sound card's clock is not ours. The lag moves slowly, by less than a thousandth; what is
      usual follows it at no more than that.
    - Sound is lost. The lag goes up and stays.

    So a chunk whose lag is above the usual by more than `tolerance_seconds` is held back, with
    those after it. If the lag comes back, they were late. If it has not within `settle_seconds`,
    the least it has come down to says how much is missing, and the first chunk about as late as
    that comes after the gap. Losses below the tolerance add up until they are above it.

    The first chunks of a connection are held back for `settle_seconds` too: the first may have
    waited in a buffer.

    Args:
        now: the clock's time, where the stream's starts should the connection fail at first;
            otherwise it starts with the first chunk.
        tolerance_seconds: more than the lag's usual jitter, about a block; infinite where late
            never means lost.
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
        """Take the next chunk.

        Args:
            now: the clock's time when it came.
            chunk: samples at any rate.
            seconds: its length.

        Returns:
            What can be handed on by now: chunks as they came, and gaps.
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
        return self._conclude() if settled or self._held_seconds > _MOST_HELD_SECONDS else []

    def interrupt(self, now: float, reason: str) -> list[FloatArray | Gap]:
        """The connection is lost, or could not be made.

        Args:
            now: the clock's time.
            reason: for the gap.

        Returns:
            The chunks held back and, if there was a connection, the gap so far. What more is
            missing when the next chunk comes is another gap before it.
        """
        items = self.end()
        if self._connected:
            self._connected, self._interruption = False, reason
            items.append(self._gap(self._lag(now) - self._usual_lag, reason))
        elif self._interruption is None:
            self._interruption = reason
        return items

    def end(self) -> list[FloatArray | Gap]:
        """Return the chunks held back; no more will come from this connection."""
        return self._conclude() if self._held else []

    def _lag(self, now: float) -> float:
        return now - self._zero - self._stream_seconds

    def _conclude(self) -> list[FloatArray | Gap]:
        """The lag has settled: decide about the chunks held back."""
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
        # A stream that catches up by itself may have less than nothing missing; it is still broken.
        seconds = max(seconds, 0.0)
        self._stream_seconds += seconds
        return Gap(seconds, reason)
