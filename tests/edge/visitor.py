"""Clients of the web page without a browser: HTTP requests and server-sent events."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

TIMEOUT_SECONDS = 10.0


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body parsed as JSON."""
        return json.loads(self.body)


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    """Send one request. Header names have `_` for `-`; trailing underscores are dropped."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, headers=_named(headers))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


class Listener:
    """A stream of server-sent events: a context manager and an iterator of (name, values)."""

    def __init__(self, port: int, **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        self._connection.request("GET", "/events", headers=_named(headers))
        self._response = self._connection.getresponse()
        self.status = self._response.status

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        name = ""
        while line := self._response.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)

    def next(self, expected: str) -> Any:
        """Wait for the next message with this name; return its values."""
        return next(values for name, values in self if name == expected)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.rstrip("_").replace("_", "-"): value for name, value in headers.items()}
