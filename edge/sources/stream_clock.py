"""Unix time for positions in a live stream."""

import math
import time

from edge.sources.timeline import clock

# Sound cards' clocks differ from the system clock by a few hundred parts per million.
_DRIFT = 1e-3


class StreamClock:
    """Maps stream time to Unix time.

    Chunks arrive late, above all when the listener was blocked and finds a backlog, but never
    early. So the smallest delay so far is the stream's, and any extra delay is the chunk's own,
    except for the drift of the sound card's clock. Gaps are part of stream time. When the time of
    day is set, the new time applies immediately.
    """

    def __init__(self) -> None:
        self._lag = math.inf
        self._seconds = 0.0

    def take(self, seconds: float) -> None:
        """Record that the stream has just reached `seconds`."""
        drift = _DRIFT * max(0.0, seconds - self._seconds)
        self._lag = min(clock() - seconds, self._lag + drift)
        self._seconds = seconds

    def unix_time(self, seconds: float) -> float:
        """Unix time of the position `seconds`; the current time before any sound has arrived."""
        if math.isinf(self._lag):
            return time.time()
        return time.time() - (clock() - self._lag - seconds)
