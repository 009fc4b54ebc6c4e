"""Live view in the terminal: level, best labels and events."""

import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import numpy as np

from edge.events.event import Event
from edge.health import Health
from edge.inference.level import FLOOR_DBFS, LevelMeter
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sinks.base import Sink
from edge.sinks.live_frame import LiveFrame
from edge.sinks.terminal_log import TerminalLog
from edge.sources.base import Gap
from edge.types import FloatArray

if TYPE_CHECKING:
    from rich.live import Live

_LOGGER = logging.getLogger("semanticac_edge")

_REFRESH_SECONDS = 0.25
# The fall rate of a studio meter.
_FALL_DB_PER_SECOND = 20.0
_PEAK_SECONDS = 1.5
_RATE_SECONDS = 10.0
_MAX_ENDED = 100
_NOTES = 2


class LiveView(Sink):
    """Fills the terminal from the first samples until `close`, then restores it.

    The view follows the size of the terminal. Messages logged to the terminal in the meantime
    appear in the view, and are logged after it closes.

    Args:
        health: source, rates and outputs to show.
        title: first line, such as the model's name.
        stream: the terminal; default: stdout.
        top: number of best labels to show.

    Raises:
        ImportError: if rich is not installed.
        ValueError: if `stream` is not a terminal with cursor control.
    """

    name = "live"

    def __init__(
        self,
        health: Health,
        title: str = "semanticac-edge",
        stream: TextIO | None = None,
        top: int = 5,
    ) -> None:
        try:
            from rich.console import Console
        except ImportError as error:
            raise ImportError("The live view needs rich. Install it: pip install rich.") from error
        self._console = Console(file=sys.stdout if stream is None else stream, highlight=False)
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            raise ValueError(
                "the live view needs a terminal with cursor control. Received: a pipe, a file or a "
                "dumb terminal. Print text or JSON lines instead."
            )
        self._health = health
        self._title = title
        self._top = top
        self._lock = threading.Lock()
        self._level_bar = _LevelBar()
        self._window: Classification | None = None
        self._window_times: deque[float] = deque(maxlen=1000)
        self._open: dict[str, Event] = {}
        self._ended: deque[Event] = deque(maxlen=_MAX_ENDED)
        self._log = TerminalLog(_LOGGER)
        self._live: Live | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="live", daemon=True)

    def use_model(self, classifier: StreamingClassifier, model_name: str) -> None:
        """Show the new model's name."""
        with self._lock:
            self._title = f"semanticac-edge: {model_name}"
            self._window = None

    def audio(self, chunk: FloatArray) -> None:
        """Update the level; start the view with the first samples."""
        if self._live is None:
            self._start()
        with self._lock:
            self._level_bar.push(chunk, time.monotonic())

    def gap(self, gap: Gap) -> None:
        """Show a message about the gap."""
        self._log.add(f"{gap.seconds:.1f} s are missing: {gap.reason}")

    def window(self, window: Classification) -> None:
        """Show the best labels."""
        with self._lock:
            self._window = window
            self._window_times.append(time.monotonic())

    def event(self, event: Event) -> None:
        """Show an open or ended event."""
        with self._lock:
            if event.end_seconds is None:
                self._open[event.id] = event
            else:
                self._open.pop(event.id, None)
                self._ended.appendleft(event)

    def close(self) -> None:
        """Restore the terminal, and log the messages held back."""
        if self._live is None:
            return
        self._stop.set()
        # A terminal stopped by Ctrl-S would block this thread too.
        self._thread.join(2.0)
        if not self._thread.is_alive():
            with suppress(OSError):
                self._live.stop()
        self._log.give_back()
        self._live = None

    def _start(self) -> None:
        from rich.live import Live

        self._log.take_over()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()
        self._thread.start()

    def _refresh(self) -> None:
        output = self._health.output(self.name)
        while not self._stop.wait(_REFRESH_SECONDS):
            assert self._live is not None
            with suppress(OSError):
                self._live.update(self._frame(), refresh=True)
            if not self._console.is_terminal:
                output.ok, output.error = False, "the terminal was closed"
                return

    def _frame(self) -> "LiveFrame":
        now = time.monotonic()
        with self._lock:
            times = [at for at in self._window_times if now - at < _RATE_SECONDS]
            return LiveFrame(
                title=self._title,
                health=self._health,
                level_dbfs=self._level_bar.level_dbfs(now),
                peak_dbfs=self._level_bar.peak_dbfs(now),
                window=self._window,
                top=self._top,
                windows_per_second=(len(times) - 1) / (times[-1] - times[0]) if times[1:] else 0.0,
                open=tuple(self._open.values()),
                ended=tuple(self._ended),
                notes=self._log.newest(_NOTES),
            )


class _LevelBar:
    """Ballistics of the displayed level: it rises immediately, falls slowly, and holds its peak."""

    def __init__(self) -> None:
        self._meter = LevelMeter()
        self._level = self._peak = FLOOR_DBFS
        self._level_at = self._peak_at = 0.0

    def push(self, chunk: FloatArray, now: float) -> None:
        if not np.isfinite(chunk).all():
            return
        self._meter.push(chunk)
        level, peak = self._meter.read()
        self._level, self._level_at = max(level, self.level_dbfs(now)), now
        if peak >= self.peak_dbfs(now):
            self._peak, self._peak_at = peak, now

    def level_dbfs(self, now: float) -> float:
        return max(FLOOR_DBFS, self._level - _FALL_DB_PER_SECOND * (now - self._level_at))

    def peak_dbfs(self, now: float) -> float:
        return self._peak if now - self._peak_at < _PEAK_SECONDS else FLOOR_DBFS
