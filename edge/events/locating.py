"""When a sound began and ended, told from windows that are much longer than a hop.

A window of 5 s hears a bark of 1 s in five windows a second apart: the first one starts 4 s before
the bark, the last one ends 4 s after it. So a sound begins near the *end* of the first window that
hears it, and ends near the *start* of the last one. How near is decided by two signs:

1. The level. A sound that stands out of its surroundings raises the level of the windows by
   3 dB or more within a hop when its beginning enters at their end, and lowers it when its end
   leaves at their start. That is right to half a hop; on recordings 20 dB above a noise, nine in
   ten times came out within a whole one.
2. Where the level says nothing (the sound before was as loud), how much of a window a sound must
   fill before the model says its name: about two fifths, see `HEARD_SHARE`.
"""

from typing import NamedTuple

from edge.inference.streaming import Classification

# Median over the sounds and backgrounds that were tried; the middle half lay in 0.2 .. 0.5.
HEARD_SHARE = 0.4
STEP_DB = 3.0


class _Span(NamedTuple):
    start_seconds: float
    end_seconds: float
    level_dbfs: float


class Locator:
    """The times and levels of the newest windows.

    Args:
        lookback: windows before the newest that may be asked for.
    """

    def __init__(self, lookback: int) -> None:
        self._lookback = lookback
        self._spans: list[_Span] = []

    def append(self, window: Classification) -> None:
        """Take the next window; forget those that no question can reach."""
        spans = self._spans
        spans.append(_Span(window.start_seconds, window.end_seconds, window.level_dbfs))
        oldest_asked = spans[max(0, len(spans) - 1 - self._lookback)]
        while len(spans) > self._lookback + 2 and spans[1].end_seconds <= oldest_asked[0]:
            del spans[0]

    def clear(self) -> None:
        """Forget all windows; the next one is the first of its stream."""
        self._spans.clear()

    def loudest(self, back: int) -> float:
        """The highest level of the newest window and the `back` before it, in dBFS."""
        return max(span.level_dbfs for span in self._spans[-1 - back :])

    def onset(self, back: int) -> float:
        """When a sound began that was first heard in the window `back` before the newest.

        Returns:
            Seconds in the stream; the window's start where it is the first of the stream, since
            nothing is known of the time before.
        """
        spans = self._spans
        first = len(spans) - 1 - back
        if first == 0:
            return spans[0].start_seconds
        heard = spans[first]
        for index in range(first, 0, -1):
            if spans[index].end_seconds <= heard.start_seconds:
                break
            if self._rises(index):
                # The first of several rises: at a small overlap the next one is large too.
                while index > 1 and self._rises(index - 1):
                    index -= 1
                return _middle(spans[index - 1].end_seconds, spans[index].end_seconds)
        share = HEARD_SHARE * (heard.end_seconds - heard.start_seconds)
        return _middle(spans[first - 1].end_seconds, heard.end_seconds) - share

    def offset(self, back: int) -> float:
        """When a sound ended that was last heard in the window `back` before the newest.

        Returns:
            Seconds in the stream, at most the newest window's end.
        """
        spans = self._spans
        last = len(spans) - 1 - back
        heard, newest = spans[last], spans[-1]
        for index in range(last + 1, len(spans)):
            if self._rises(index, falls=True):
                while index + 1 < len(spans) and self._rises(index + 1, falls=True):
                    index += 1
                if index == len(spans) - 1:  # Some of it may be in this window yet.
                    return spans[index].start_seconds
                return _middle(spans[index - 1].start_seconds, spans[index].start_seconds)
        after = spans[last + 1] if back else heard
        share = HEARD_SHARE * (heard.end_seconds - heard.start_seconds)
        middle = _middle(heard.start_seconds, after.start_seconds)
        return min(middle + share, newest.end_seconds)

    def _rises(self, index: int, falls: bool = False) -> bool:
        before, here = self._spans[index - 1].level_dbfs, self._spans[index].level_dbfs
        return (before - here if falls else here - before) >= STEP_DB


def _middle(a: float, b: float) -> float:
    return (a + b) / 2
