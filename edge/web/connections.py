"""Limits on connections, placed in front of uvicorn's HTTP protocol."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_Address = tuple[str, int]


class ConnectionLimits:
    """Closes connections that occupy the server without making progress.

    A connection is closed if its request headers are incomplete `request_seconds` after it opened
    or after its last response, or if the client reads nothing for `stall_seconds` while a response
    is waiting. New connections beyond `max_connections` are closed immediately.

    No setting of uvicorn (0.29 to 0.54) does this: `timeout_keep_alive` starts only after a
    response, `limit_concurrency` answers 503 but keeps idle connections, and stalled clients have
    no timeout. So `protocol_class` goes to `uvicorn.Config(http=...)`. It forwards the calls of
    `asyncio.Protocol` to uvicorn's `H11Protocol`, the one name used from uvicorn's modules.
    `middleware` reports which connections have a request under way.

    Args:
        max_connections: open connections at a time.
        request_seconds: time for complete request headers.
        stall_seconds: time without any progress in sending.
    """

    def __init__(
        self,
        max_connections: int = 64,
        request_seconds: float = 10.0,
        stall_seconds: float = 10.0,
    ) -> None:
        self.max_connections = max_connections
        self.request_seconds = request_seconds
        self.stall_seconds = stall_seconds
        self.connections: dict[_Address, _Connection] = {}

    def protocol_class(self) -> type[asyncio.Protocol]:
        """Protocol for `uvicorn.Config(http=...)`."""
        limits = self

        class LimitedProtocol(_Connection):
            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                super().__init__(limits, H11Protocol(*arguments, **keywords))

        return LimitedProtocol

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that no request timeout runs while it handles a request."""

        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            client = scope.get("client")
            connection = self.connections.get(tuple(client)) if client else None
            if connection is None:
                return await app(scope, receive, send)
            connection.begin_request()
            try:
                await app(scope, receive, send)
            finally:
                connection.end_request()

        return limited


class _Connection(asyncio.Protocol):
    """Forwards everything to `http`, and aborts the transport when a timer runs out."""

    def __init__(self, limits: ConnectionLimits, http: asyncio.Protocol) -> None:
        self._limits = limits
        self._http = http
        self._requests = 0
        self._request_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        host, port, *_ = transport.get_extra_info("peername")
        self._address = (host, port)
        self._limits.connections[self._address] = self
        self._http.connection_made(transport)
        if len(self._limits.connections) > self._limits.max_connections:
            transport.abort()
        self._await_request()

    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()
        self._stall_timer = self._abort_after(self._limits.stall_seconds)

    def resume_writing(self) -> None:
        _cancel(self._stall_timer)
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._request_timer)
        _cancel(self._stall_timer)
        # The address may belong to a new connection already.
        if self._limits.connections.get(self._address) is self:
            del self._limits.connections[self._address]
        self._http.connection_lost(exc)

    def begin_request(self) -> None:
        # With pipelining, the next request may begin before the last one ends.
        self._requests += 1
        _cancel(self._request_timer)

    def end_request(self) -> None:
        self._requests -= 1
        if not self._requests and not self._transport.is_closing():
            self._await_request()

    def _await_request(self) -> None:
        self._request_timer = self._abort_after(self._limits.request_seconds)

    def _abort_after(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()
