"""Sink that serves the web page."""

import base64
import importlib
import time
from collections.abc import Iterable
from pathlib import Path

from edge.events.event import Event
from edge.health import Health
from edge.inference.level import LevelMeter
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sinks.base import Sink
from edge.sources.base import Gap
from edge.types import FloatArray
from edge.web.address import bind, check_token, url
from edge.web.feed import Feed
from edge.web.page_state import PageState
from edge.web.spectrogram import Spectrogram

_PACKAGES = ("prometheus_client", "starlette", "uvicorn")
_TOP = 5


class WebSink(Sink):
    """Serves a page with a live spectrogram, the best labels, events, clips and health.

    The spectrogram is computed only while a page is open.

    Args:
        classifier: the current classifier.
        model_name: displayed name, such as the bundle's file name.
        health: shown on the page, and served as `/healthz` and `/metrics`.
        host: host to bind to.
        port: port to bind to; 0 picks a free one.
        token: secret for visitors, at least 16 letters, digits or -._~; None allows everyone who
            can connect.
        names: host names used besides the machine's own, such as a reverse proxy's.
        clips_dir: folder of the clips, if any.

    Attributes:
        url: URL to open in a browser, without the token.
        port: the bound port.

    Raises:
        ImportError: if the extra `web` is not installed.
        OSError: if the address is unknown or in use.
        ValueError: if the token is invalid, or missing although other machines can connect.
    """

    name = "web"

    def __init__(
        self,
        classifier: StreamingClassifier,
        model_name: str,
        health: Health,
        host: str = "127.0.0.1",
        port: int = 8765,
        token: str | None = None,
        names: Iterable[str] = (),
        clips_dir: Path | None = None,
    ) -> None:
        check_token(host, token)
        require_packages()
        from edge.web.app import create_app
        from edge.web.guard import Guard
        from edge.web.server import Server

        self._page_state = PageState()
        self._feed = Feed()
        self._output = health.output(self.name)
        self._meter = LevelMeter()
        self._position_seconds = 0.0
        self.use_model(classifier, model_name)
        listener = bind(host, port)
        self.port: int = listener.getsockname()[1]
        self.url = url(host, self.port)
        app = create_app(self._page_state, self._feed, health, clips_dir)
        guard = Guard(app, [host, *names], token, cookie_name=f"semanticac_{self.port}")
        self._server = Server(guard, listener)

    def use_model(self, classifier: StreamingClassifier, model_name: str) -> None:
        """Switch to another model, and update open pages."""
        self._rate_hz = classifier.front_end.sample_rate_hz
        self._spectrogram = Spectrogram(classifier.front_end)
        self._watched = False
        self._page_state.describe(model_name, classifier, self._spectrogram)
        self._feed.publish("hello", self._page_state.hello())

    def audio(self, chunk: FloatArray) -> None:
        """Send the next samples (samples,) to open pages, as spectrogram rows and levels."""
        watched = self._feed.clients > 0
        if watched and not self._watched:
            self._restart_spectrogram()
        self._watched = watched
        self._position_seconds += len(chunk) / self._rate_hz
        if not watched:
            return
        self._meter.push(chunk)
        rows = self._spectrogram.push(chunk)
        if not rows:
            return
        self._row_count += len(rows) // len(self._spectrogram.bands_hz)
        end_seconds = self._start_seconds + self._row_count / self._spectrogram.rows_per_second
        level_dbfs, peak_dbfs = self._meter.read()
        values = {
            "end_seconds": round(end_seconds, 3),
            "rows": base64.b64encode(rows).decode("ascii"),
            "level_dbfs": round(level_dbfs, 1),
            "peak_dbfs": round(peak_dbfs, 1),
        }
        self._feed.publish("frames", values, droppable=True)

    def gap(self, gap: Gap) -> None:
        """Send a gap to open pages."""
        self._position_seconds += gap.seconds
        self._restart_spectrogram()
        values = {"seconds": gap.seconds, "reason": gap.reason, "at": time.time()}
        self._feed.publish("gap", values)

    def window(self, window: Classification) -> None:
        """Send the best labels to open pages.

        Raises:
            RuntimeError: if the server has stopped.
        """
        if not self._server.alive:
            raise RuntimeError("The web server has stopped. Restart the listener.")
        values = {
            "start_seconds": window.start_seconds,
            "end_seconds": window.end_seconds,
            "level_dbfs": round(float(window.level_dbfs), 1),
            "gated": window.gated,
            "top": [[label, round(score, 4)] for label, score in window.top(_TOP)],
        }
        self._feed.publish("window", values)
        self._output.dropped = self._feed.cut_off

    def event(self, event: Event) -> None:
        """Send an event to open pages, and keep it for later ones."""
        self._feed.publish("event", self._page_state.add(event))

    def close(self) -> None:
        """End all event streams, and stop the server."""
        self._feed.close()
        self._server.close()

    def _restart_spectrogram(self) -> None:
        self._spectrogram.reset()
        self._meter.read()
        self._start_seconds, self._row_count = self._position_seconds, 0


def require_packages() -> None:
    """Check that the packages of the extra `web` are installed.

    Raises:
        ImportError: if one is missing.
    """
    for package in _PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"The web page needs {package}, which is not installed. "
                "Install it: pip install 'semanticac-keras[web]'"
            ) from error
