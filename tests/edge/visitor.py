"""A visitor of the page without a browser: plain HTTP, and server-sent events."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

TIMEOUT_SECONDS = 10.0


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body's values."""
        return json.loads(self.body)


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request; `host_=` and the like become header names without the underscores at the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, headers=_named(headers))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


class Listener:
    """One stream of server-sent events; a context manager, and an iterator of (name, values)."""

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

    def next(self, wanted: str) -> Any:
        """The next message of that name."""
        return next(values for name, values in self if name == wanted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.rstrip("_").replace("_", "-"): value for name, value in headers.items()}
