"""Thread-safe counters and states of the listener."""

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
_NOT_STARTED = "not started"
# Even a quiet room and a poor sound card have noise: only a muted input is exactly 0 for so long.
_MUTED_SECONDS = 60.0
_STATM = Path("/proc/self/statm")


@dataclass
class OutputHealth:
    """State of one output, written only by the output and its caller.

    Args:
        ok: whether the output works.
        error: reason for a failure, in one line; empty while `ok`.
        failures: number of calls that raised.
        queued: number of waiting items, for an output with a queue.
        dropped: number of items dropped because the queue was full.
    """

    ok: bool = True
    error: str = ""
    failures: int = 0
    queued: int = 0
    dropped: int = 0


class Health:
    """Counters since the start, and current states. All methods are thread-safe.

    Args:
        hop_seconds: time between the starts of two windows; decides when a window is overdue.

    Attributes:
        hop_seconds: see above; a reload may change it.
        windows: number of windows, gated ones included.
        gated_windows: number of windows too quiet to classify.
        inference_seconds: total inference time of the classified windows.
        last_inference_seconds: inference time of the last classified window.
        gaps: number of gaps in the sound.
        gap_seconds: total length of the gaps.
        reconnects: number of times the source came back.
        events: number of started events, by label.
        open_events: number of events that have not ended.
        source: name of the source, or the reason why it is down.
        source_up: whether sound arrives.
        muted: whether nothing but digital silence has arrived for a minute.
        outputs: state of each output, by name; see `output`.
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
        self.source = _NOT_STARTED
        self.source_up = False
        self.muted = False
        self._silent_seconds = 0.0
        self.outputs: dict[str, OutputHealth] = {}
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._last_window: float | None = None

    def count_window(self, inference_seconds: float = 0.0, gated: bool = False) -> None:
        """Count a window; a gated one has no inference time."""
        with self._lock:
            self.windows += 1
            self._last_window = time.monotonic()
            if gated:
                self.gated_windows += 1
            else:
                self.inference_seconds += inference_seconds
                self.last_inference_seconds = inference_seconds

    def count_gap(self, seconds: float) -> None:
        """Count a gap in the sound."""
        with self._lock:
            self.gaps += 1
            self.gap_seconds += seconds

    def count_event(self, event: Event) -> None:
        """Count the start or the end of an event."""
        with self._lock:
            if event.end_seconds is None:
                self.events[event.label] += 1
                self.open_events += 1
            else:
                self.open_events -= 1

    def count_sound(self, seconds: float, silent: bool) -> None:
        """Count sound, which is digital silence or is not; see `muted`."""
        with self._lock:
            self._silent_seconds = self._silent_seconds + seconds if silent else 0.0
            self.muted = self._silent_seconds >= _MUTED_SECONDS

    def count_reconnect(self) -> None:
        """Count a recovery of the source."""
        with self._lock:
            self.reconnects += 1

    def set_source(self, up: bool, text: str) -> None:
        """Set whether sound arrives, and the source's name or the reason why it is down."""
        with self._lock:
            self.source_up, self.source = up, text

    def output(self, name: str) -> OutputHealth:
        """Return the state of an output; the first call creates it."""
        with self._lock:
            return self.outputs.setdefault(name, OutputHealth())

    @property
    def failed(self) -> bool:
        """Whether the source has been started and is down."""
        return not self.source_up and self.source != _NOT_STARTED

    @property
    def ready(self) -> bool:
        """Whether sound arrives and the last window is recent."""
        age = self.window_age_seconds()
        limit = max(_READY_SECONDS, _READY_HOPS * self.hop_seconds)
        return self.source_up and age is not None and age <= limit

    def window_age_seconds(self) -> float | None:
        """Return the time since the last window; None before the first."""
        last = self._last_window
        return None if last is None else time.monotonic() - last

    def uptime_seconds(self) -> float:
        """Return the time since the start."""
        return time.monotonic() - self._started

    def rss_bytes(self) -> int | None:
        """Return the resident memory of this process; None if the system does not report it."""
        try:
            pages = int(_STATM.read_text().split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    def to_json(self) -> dict[str, Any]:
        """Return a consistent snapshot as plain values."""
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
                "muted": self.muted,
            }
        return counted | {
            "ready": self.ready,
            "window_age_seconds": self.window_age_seconds(),
            "uptime_seconds": self.uptime_seconds(),
            "rss_bytes": self.rss_bytes(),
            "outputs": outputs,
        }
