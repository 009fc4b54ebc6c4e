"""The time of day at a moment of a live stream."""

import math
import time

from edge.sources.timeline import clock

# Sound cards' clocks differ from ours by a few hundred parts in a million.
_DRIFT = 1e-3


class StreamClock:
    """Maps the stream's time to Unix time.

    Chunks come late, above all where the listener was held up and finds a backlog, but never
    early. So the least delay there was is the stream's, and a later chunk's greater one its own;
    but for what the sound card's clock loses to ours. What the stream lacks is in its time, as a
    gap. When the time of day is set, the new one counts at once.
    """

    def __init__(self) -> None:
        self._lag = math.inf
        self._seconds = 0.0

    def take(self, seconds: float) -> None:
        """The stream has just come so far."""
        drift = _DRIFT * max(0.0, seconds - self._seconds)
        self._lag = min(clock() - seconds, self._lag + drift)
        self._seconds = seconds

    def unix_time(self, seconds: float) -> float:
        """When it was so far into the stream; now, before anything has come."""
        if math.isinf(self._lag):
            return time.time()
        return time.time() - (clock() - self._lag - seconds)
