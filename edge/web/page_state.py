"""Initial state of a new page: the model and the latest events."""

import threading
import time
from typing import Any

from edge.events.event import Event
from edge.inference.streaming import StreamingClassifier
from edge.release import installed_version
from edge.web.spectrogram import CEILING_DB, FLOOR_DB, Spectrogram

MAX_EVENTS = 200


class PageState:
    """The current model and the latest events. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, dict[str, Any]] = {}
        self._model: dict[str, Any] = {}

    def describe(
        self, model_name: str, classifier: StreamingClassifier, spectrogram: Spectrogram
    ) -> None:
        """Set the current model."""
        self._model = {
            "model": model_name,
            "labels": list(classifier.labels),
            "window_seconds": classifier.front_end.window_seconds,
            "hop_seconds": classifier.hop_seconds,
            "rows_per_second": spectrogram.rows_per_second,
            "bands_hz": [round(float(hz), 1) for hz in spectrogram.bands_hz],
            "row_floor_db": FLOOR_DB,
            "row_ceiling_db": CEILING_DB,
        }

    def add(self, event: Event) -> dict[str, Any]:
        """Add or update an event; return it as JSON values."""
        values = event.to_json()
        with self._lock:
            self._events[event.id] = values
            if len(self._events) > MAX_EVENTS:
                del self._events[next(iter(self._events))]
        return values

    def events(self) -> list[dict[str, Any]]:
        """The latest events, newest first."""
        with self._lock:
            return list(reversed(self._events.values()))

    def hello(self) -> dict[str, Any]:
        """First message of an event stream."""
        return self._model | {
            "version": installed_version() or "unknown",
            "now": time.time(),
            "events": self.events(),
        }
