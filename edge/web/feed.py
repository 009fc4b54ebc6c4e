"""From the listener's thread to every open page: server-sent events through bounded queues."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MAX_CLIENTS = 16

# About ten seconds of everything. What is droppable stops long before.
_MAX_QUEUED = 256
_MAX_QUEUED_DROPPABLE = 32


class FeedFullError(Exception):
    """No further page can listen."""


class Client:
    """One page's messages; those that wait are bounded."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def next(self) -> bytes | None:
        """The next message; None at the end."""
        return await self._queue.get()

    def put(self, message: bytes, droppable: bool) -> bool:
        """Queue a message; False if too many wait, which ends the stream."""
        waiting = self._queue.qsize()
        if droppable and waiting >= _MAX_QUEUED_DROPPABLE:
            return True
        if waiting >= _MAX_QUEUED:
            self.end()
            return False
        self._queue.put_nowait(message)
        return True

    def end(self) -> None:
        """Forget what waits, and end."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)


class Feed:
    """Hands each message to all clients; one that does not keep up is cut off, and may come anew.

    `publish` and `close` may be called from any thread, the rest belongs to the event loop.

    Args:
        max_clients: streams open at a time.

    Attributes:
        cut_off: clients that were cut off so far.
    """

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self.cut_off = 0
        self._max_clients = max_clients
        self._clients: set[Client] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def clients(self) -> int:
        """Streams open now."""
        return len(self._clients)

    def publish(self, kind: str, values: dict[str, Any], droppable: bool = False) -> None:
        """Send a message to all who listen; costs nothing where none does.

        Args:
            kind: its name, an SSE event type.
            values: plain values.
            droppable: may be left out where a client lags.

        Raises:
            ValueError: if `values` hold NaN or infinity, which JSON lacks.
        """
        if self._clients:
            self._call(self._deliver, encode(kind, values), droppable)

    def close(self) -> None:
        """End all streams, and let no one in."""
        self._closed = True
        self._call(self._end_all)

    @contextmanager
    def join(self) -> Iterator[Client]:
        """Listen while the context lasts.

        Raises:
            FeedFullError: if too many do, or the feed is closed.
        """
        if self._closed:
            raise FeedFullError("The listener is stopping.")
        if len(self._clients) >= self._max_clients:
            raise FeedFullError(f"{self._max_clients} pages are open already. Close one of them.")
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
    """A message as it goes over the wire; JSON holds no line breaks, so one `data` line does."""
    data = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()
