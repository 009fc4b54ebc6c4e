"""How the listener is doing: counters and states that its threads write and anyone may read."""

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.events.event import Event

_READY_SECONDS = 10.0
_READY_HOPS = 5
_STATM = Path("/proc/self/statm")


@dataclass
class OutputHealth:
    """How one output is doing; only the output itself, and who calls it, write here.

    Args:
        ok: it takes what it is given.
        error: why it does not, in one line; empty while `ok`.
        failures: calls that raised.
        queued: items that wait, for an output that keeps some.
        dropped: items that were given up because too many waited.
    """

    ok: bool = True
    error: str = ""
    failures: int = 0
    queued: int = 0
    dropped: int = 0


class Health:
    """Counters since the start and the present states. The methods are safe from any thread.

    Args:
        hop_seconds: time between two windows, which says when one is overdue.

    Attributes:
        hop_seconds: may be changed with the model.
        windows: windows that came out, gated ones included.
        gated_windows: windows too quiet to be classified.
        inference_seconds: time spent on the windows that were classified.
        last_inference_seconds: the same for the last one.
        gaps: breaks in the sound.
        gap_seconds: their length.
        reconnects: times the source came back.
        events: events that started, by label.
        open_events: those that have not ended.
        source: what is captured, or why nothing is.
        source_up: sound is coming in.
        outputs: by name; see `output`.
    """

    def __init__(self, hop_seconds: float = 1.0) -> None:
        self.hop_seconds = hop_seconds
        self.windows = 0
        self.gated_windows = 0
        self.inference_seconds = 0.0
        self.last_inference_seconds = 0.0
        self.gaps = 0
        self.gap_seconds = 0.0
        self.reconnects = 0
        self.events: Counter[str] = Counter()
        self.open_events = 0
        self.source = "not started"
        self.source_up = False
        self.outputs: dict[str, OutputHealth] = {}
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._last_window: float | None = None

    def count_window(self, inference_seconds: float = 0.0, gated: bool = False) -> None:
        """A window came out; `gated` ones cost no inference."""
        with self._lock:
            self.windows += 1
            self._last_window = time.monotonic()
            if gated:
                self.gated_windows += 1
            else:
                self.inference_seconds += inference_seconds
                self.last_inference_seconds = inference_seconds

    def count_gap(self, seconds: float) -> None:
        """Sound is missing."""
        with self._lock:
            self.gaps += 1
            self.gap_seconds += seconds

    def count_event(self, event: Event) -> None:
        """An event starts, or ends."""
        with self._lock:
            if event.end_seconds is None:
                self.events[event.label] += 1
                self.open_events += 1
            else:
                self.open_events -= 1

    def count_reconnect(self) -> None:
        """The source came back after it was lost."""
        with self._lock:
            self.reconnects += 1

    def set_source(self, up: bool, text: str) -> None:
        """Say whether sound comes in, and what is captured or why nothing is."""
        with self._lock:
            self.source_up, self.source = up, text

    def output(self, name: str) -> OutputHealth:
        """The health of the output of that name; the first call makes it."""
        with self._lock:
            return self.outputs.setdefault(name, OutputHealth())

    @property
    def ready(self) -> bool:
        """Sound comes in, and a window came out lately."""
        age = self.window_age_seconds()
        limit = max(_READY_SECONDS, _READY_HOPS * self.hop_seconds)
        return self.source_up and age is not None and age <= limit

    def window_age_seconds(self) -> float | None:
        """Time since the last window; None before the first."""
        last = self._last_window
        return None if last is None else time.monotonic() - last

    def uptime_seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started

    def rss_bytes(self) -> int | None:
        """Resident memory of this process; None where the system does not say."""
        try:
            pages = int(_STATM.read_text().split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    def to_json(self) -> dict[str, Any]:
        """Plain values of everything, taken at one moment."""
        with self._lock:
            outputs = {name: vars(output).copy() for name, output in self.outputs.items()}
            counted = {
                "windows": self.windows,
                "gated_windows": self.gated_windows,
                "inference_seconds": self.inference_seconds,
                "last_inference_seconds": self.last_inference_seconds,
                "gaps": self.gaps,
                "gap_seconds": self.gap_seconds,
                "reconnects": self.reconnects,
                "events": dict(self.events),
                "open_events": self.open_events,
                "source": self.source,
                "source_up": self.source_up,
            }
        return counted | {
            "ready": self.ready,
            "window_age_seconds": self.window_age_seconds(),
            "uptime_seconds": self.uptime_seconds(),
            "rss_bytes": self.rss_bytes(),
            "outputs": outputs,
        }
