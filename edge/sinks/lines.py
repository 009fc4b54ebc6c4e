"""Line output: text or JSON lines."""

import json
from typing import Any, TextIO

from edge.events.event import Event
from edge.inference.streaming import Classification
from edge.sinks.base import Sink
from edge.sources.base import Gap


class _LineSink(Sink):
    """Options of both kinds of lines."""

    def __init__(self, stream: TextIO, top: int = 3, windows: bool = True) -> None:
        self._stream = stream
        self._top = top
        self._windows = windows

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class TextSink(_LineSink):
    """Writes an aligned line per window, per start and end of an event, and per gap:

           3.00 -   13.00 s  rain 0.93  sea waves 0.04  wind 0.01
           3.00 -     ... s  > rain 0.93, -31.5 dBFS
           4.00 -   14.00 s  too quiet, -70.2 dBFS
           3.00 -   13.50 s  < rain 0.90, at best 0.97, -31.5 dBFS, ended: quiet

    Args:
        stream: output; flushed after each line.
        top: number of best labels per line.
        windows: whether to write a line per window.
    """

    name = "text"

    def gap(self, gap: Gap) -> None:
        """Write one line."""
        self._print(f"{gap.seconds:.2f} s are missing: {gap.reason}")

    def window(self, window: Classification) -> None:
        """Write one line."""
        if not self._windows:
            return
        times = f"{window.start_seconds:7.2f} - {window.end_seconds:7.2f} s"
        if window.gated:
            self._print(f"{times}  too quiet, {window.level_dbfs:.1f} dBFS")
            return
        best = (f"  {label} {score:.2f}" for label, score in window.top(self._top))
        self._print(times + "".join(best))

    def event(self, event: Event) -> None:
        """Write one line."""
        start, level = f"{event.start_seconds:7.2f}", f"{event.level_dbfs:.1f} dBFS"
        if event.end_seconds is None:
            self._print(f"{start} -     ... s  > {event.label} {event.mean_score:.2f}, {level}")
        else:
            self._print(
                f"{start} - {event.end_seconds:7.2f} s  < {event.label} {event.mean_score:.2f}, "
                f"at best {event.peak_score:.2f}, {level}, ended: {event.end_reason}"
            )


class JsonSink(_LineSink):
    """Writes JSON objects with a `type`: `window`, `event` (see `Event.to_json`) or `gap`.

    Args:
        stream: output; flushed after each line.
        top: number of best labels in a window's `top`.
        windows: whether to write a line per window.
    """

    name = "json"

    def gap(self, gap: Gap) -> None:
        """Write one line."""
        self._write({"type": "gap", "seconds": gap.seconds, "reason": gap.reason})

    def window(self, window: Classification) -> None:
        """Write one line."""
        if self._windows:
            self._write({"type": "window"} | window.to_json(self._top))

    def event(self, event: Event) -> None:
        """Write one line."""
        self._write(event.to_json())

    def _write(self, values: dict[str, Any]) -> None:
        self._print(json.dumps(values))
