"""Bounded queues of server-sent events from the listener's thread to each open page."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MAX_CLIENTS = 16

# About ten seconds of all messages; droppable ones are limited more strictly.
_MAX_QUEUED = 256
_MAX_QUEUED_DROPPABLE = 32


class FeedFullError(Exception):
    """Raised if no more pages can join."""


class Client:
    """Bounded queue of messages for one page."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def next(self) -> bytes | None:
        """Wait for the next message; None at the end."""
        return await self._queue.get()

    def put(self, message: bytes, droppable: bool) -> bool:
        """Queue a message. A full queue ends the stream and returns False."""
        waiting = self._queue.qsize()
        if droppable and waiting >= _MAX_QUEUED_DROPPABLE:
            return True
        if waiting >= _MAX_QUEUED:
            self.end()
            return False
        self._queue.put_nowait(message)
        return True

    def end(self) -> None:
        """Discard queued messages, and end the stream."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)


class Feed:
    """Sends each message to all clients. A client that is too slow is cut off, and may reconnect.

    Call `publish` and `close` from any thread, everything else in the event loop.

    Args:
        max_clients: maximum number of open streams.

    Attributes:
        cut_off: number of clients cut off so far.
    """

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self.cut_off = 0
        self._max_clients = max_clients
        self._clients: set[Client] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def clients(self) -> int:
        """Number of open streams."""
        return len(self._clients)

    def publish(self, kind: str, values: dict[str, Any], droppable: bool = False) -> None:
        """Send a message to all clients; nothing is encoded if there are none.

        Args:
            kind: SSE event type.
            values: JSON values.
            droppable: whether slow clients may skip the message.

        Raises:
            ValueError: if `values` contain NaN or infinity, which JSON cannot represent.
        """
        if self._clients:
            self._call(self._deliver, encode(kind, values), droppable)

    def close(self) -> None:
        """End all streams, and reject new clients."""
        self._closed = True
        self._call(self._end_all)

    @contextmanager
    def join(self) -> Iterator[Client]:
        """Receive messages while the context lasts.

        Raises:
            FeedFullError: if `max_clients` are connected, or the feed is closed.
        """
        if self._closed:
            raise FeedFullError("The listener is stopping.")
        if len(self._clients) >= self._max_clients:
            raise FeedFullError(f"{self._max_clients} pages are already open. Close one of them.")
        self._loop = asyncio.get_running_loop()
        client = Client()
        self._clients.add(client)
        try:
            yield client
        finally:
            self._clients.discard(client)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _deliver(self, message: bytes, droppable: bool) -> None:
        for client in list(self._clients):
            if not client.put(message, droppable):
                self.cut_off += 1
                self._clients.discard(client)

    def _end_all(self) -> None:
        for client in self._clients:
            client.end()


def encode(kind: str, values: dict[str, Any]) -> bytes:
    """Encode a message for the wire. JSON has no line breaks, so one `data` line is enough."""
    data = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()
