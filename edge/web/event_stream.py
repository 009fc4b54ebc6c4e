"""Response with server-sent events."""

import asyncio

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from edge.web.feed import Client, Feed, FeedFullError

_RETRY = b"retry: 2000\n\n"


class EventStream(Response):
    """Sends a client's messages until it disconnects, is cut off, or the feed ends.

    Args:
        feed: feed to join; if it is full, the response is 503.
        first: first message.
    """

    def __init__(self, feed: Feed, first: bytes) -> None:
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        # The length of the stream is unknown.
        del self.headers["content-length"]
        self._feed = feed
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            with self._feed.join() as client:
                await self._serve(client, receive, send)
        except FeedFullError as error:
            refusal = PlainTextResponse(f"{error}\n", 503, {"Retry-After": "10"})
            await refusal(scope, receive, send)

    async def _serve(self, client: Client, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        tasks = [
            asyncio.create_task(self._write(client, send)),
            asyncio.create_task(_disconnected(receive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, client: Client, send: Send) -> None:
        message: bytes | None = _RETRY + self._first
        while message is not None:
            await send({"type": "http.response.body", "body": message, "more_body": True})
            message = await client.next()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
