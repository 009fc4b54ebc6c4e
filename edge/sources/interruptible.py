"""A pipe whose reader can be called off."""

import os
import select
from collections.abc import Callable
from typing import BinaryIO

_POLL_SECONDS = 0.25


class InterruptiblePipe:
    """Reads a pipe, and finds it at its end as soon as nobody wants to go on.

    A plain read waits for as long as the other side says nothing, whatever signal comes meanwhile.

    Args:
        stream: the pipe, of which nothing has been read yet.
        should_stop: is asked a few times a second.
    """

    def __init__(self, stream: BinaryIO, should_stop: Callable[[], bool]) -> None:
        self._fd = stream.fileno()
        self._should_stop = should_stop

    def read(self, size: int) -> bytes:
        """Wait for the next bytes, at most `size`; nothing at the end."""
        while not self._should_stop():
            if select.select([self._fd], [], [], _POLL_SECONDS)[0]:
                return os.read(self._fd, size)
        return b""
