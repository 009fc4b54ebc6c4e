"""Serves the application from a thread, and sheds connections that only hold on."""

import asyncio
import logging
import socket
import threading
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_MAX_CONNECTIONS = 64
_REQUEST_SECONDS = 10.0
_STALL_SECONDS = 10.0
_SHUTDOWN_SECONDS = 2

_logger = logging.getLogger("semanticac_edge")


class Server:
    """A web server in a thread of its own; signals stay with the main thread.

    Args:
        app: what is served.
        listener: a listening socket, which it then owns.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            # Who speaks for others here is not known.
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
        """It serves, or is about to."""
        return self._thread.is_alive()

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


class Protocol(H11Protocol):
    """HTTP/1.1 with the limits that uvicorn lacks.

    A connection is closed that has not made a whole request 10 s after it could, or takes nothing
    of its answer for as long. Beyond 64 connections further ones are closed at once.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._request_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept, or not."""
        super().connection_made(transport)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Some of a request; the time for all of it does not start anew."""
        super().data_received(data)
        if self.cycle and not self.cycle.response_complete:
            _cancel(self._request_timer)

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._await_request()

    def pause_writing(self) -> None:
        """The other side takes nothing for now."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(_STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It goes on."""
        _cancel(self._stall_timer)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tidy up."""
        _cancel(self._request_timer)
        _cancel(self._stall_timer)
        super().connection_lost(exc)

    def _await_request(self) -> None:
        _cancel(self._request_timer)
        self._request_timer = self.loop.call_later(_REQUEST_SECONDS, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()
