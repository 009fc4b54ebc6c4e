"""A pipe whose reader can be interrupted."""

import os
import select
from collections.abc import Callable
from typing import BinaryIO

_POLL_SECONDS = 0.25


class InterruptiblePipe:
    """Reads a pipe, and reports its end as soon as `should_stop` returns true.

    A plain read would block until the writer sends something, whatever signal arrives meanwhile.

    Args:
        stream: the pipe, from which nothing has been read yet.
        should_stop: called a few times per second.
    """

    def __init__(self, stream: BinaryIO, should_stop: Callable[[], bool]) -> None:
        self._fd = stream.fileno()
        self._should_stop = should_stop

    def read(self, size: int) -> bytes:
        """Wait for the next bytes, at most `size`; empty at the end."""
        while not self._should_stop():
            if select.select([self._fd], [], [], _POLL_SECONDS)[0]:
                return os.read(self._fd, size)
        return b""
