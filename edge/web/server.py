"""Runs the web server in a thread."""

import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from edge.web.connections import ConnectionLimits

_SHUTDOWN_SECONDS = 2

_logger = logging.getLogger("semanticac_edge")


class Server:
    """A web server in its own thread; signals stay with the main thread.

    Args:
        app: the application to serve.
        listener: a listening socket, closed together with the server.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._limits = ConnectionLimits()
        config = uvicorn.Config(
            self._limits.middleware(app),
            http=self._limits.protocol_class(),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            # No proxy is trusted to report other addresses.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the server is running or starting."""
        return self._thread.is_alive()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._limits.connections)

    def close(self) -> None:
        """Stop, within about three seconds."""
        self._server.should_exit = True
        self._thread.join(_SHUTDOWN_SECONDS + 2)
        self._listener.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except Exception:
            _logger.exception("The web server failed.")
