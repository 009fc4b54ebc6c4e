"""Where classifications go: text for people, JSON lines for programs."""

import json
from typing import Protocol, TextIO

from edge.streaming import Classification


class Sink(Protocol):
    """Takes one classification at a time."""

    def write(self, classification: Classification) -> None:
        """Hand on one classification, at once."""


class TextSink:
    """One aligned line a window: `   3.00 -   13.00 s  rain 0.93  sea waves 0.04`.

    Args:
        stream: where the lines go; each is flushed.
        top: best labels a line.
    """

    def __init__(self, stream: TextIO, top: int = 3) -> None:
        self._stream = stream
        self._top = top

    def write(self, classification: Classification) -> None:
        """Write one line."""
        times = f"{classification.start_seconds:7.2f} - {classification.end_seconds:7.2f} s"
        best = (f"  {label} {score:.2f}" for label, score in classification.top(self._top))
        print(times, *best, sep="", file=self._stream, flush=True)


class JsonSink:
    """One JSON object a line: `start_seconds`, `end_seconds`, `top` and `scores` by label.

    Args:
        stream: where the lines go; each is flushed.
        top: best labels in `top`.
    """

    def __init__(self, stream: TextIO, top: int = 3) -> None:
        self._stream = stream
        self._top = top

    def write(self, classification: Classification) -> None:
        """Write one line."""
        print(json.dumps(classification.to_json(self._top)), file=self._stream, flush=True)
