"""A process of ours that writes sound to one pipe and words to another."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

_WAIT_SECONDS = 0.5
_LAST_WAIT_SECONDS = 5.0
_WORDS_BYTES = 65_536


class StallError(Exception):
    """The process wrote nothing for too long."""


class Child:
    """Starts a process and reads what it writes.

    It leads a process group of its own: a Ctrl-C in the terminal is ours alone to handle, and
    `kill` takes whatever it started with it.

    Args:
        command: program and arguments.
        said: is called with each line that the process writes to stderr, from within `read`.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(self, command: Sequence[str], said: Callable[[str], None]) -> None:
        self._said = said
        self._words = b""
        self._ending = threading.RLock()
        self._ended = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        assert self._process.stdout
        assert self._process.stderr
        self._sound_fd = self._process.stdout.fileno()
        self._words_fd = self._process.stderr.fileno()
        self._selector = selectors.DefaultSelector()
        for fd in (self._sound_fd, self._words_fd):
            self._selector.register(fd, selectors.EVENT_READ)

    def read(self, size: int, patience_seconds: float) -> bytes:
        """Read the next bytes from stdout.

        Args:
            size: at most so many.
            patience_seconds: how long to wait. Time in which this process was stopped counts for
                half a second at most: it is not held against the other.

        Returns:
            Nothing at the end, and after `kill`.

        Raises:
            StallError: if nothing comes.
        """
        waited = 0.0
        while waited < patience_seconds:
            start = time.monotonic()
            ready = [key.fd for key, _ in self._selector.select(_WAIT_SECONDS)]
            # Words first: they may be about the sound.
            if self._words_fd in ready:
                self._listen()
            if self._sound_fd in ready:
                return os.read(self._sound_fd, size)
            waited += min(time.monotonic() - start, _WAIT_SECONDS)
        raise StallError(f"nothing came for {patience_seconds:g} s")

    def read_exactly(self, size: int, patience_seconds: float) -> bytes:
        """Read so many bytes from stdout, waiting up to `patience_seconds` for each part.

        Raises:
            EOFError: if it ends before.
            StallError: if nothing comes.
        """
        data = b""
        while len(data) < size:
            part = self.read(size - len(data), patience_seconds)
            if not part:
                raise EOFError
            data += part
        return data

    def finish(self) -> int:
        """Hear the last words, end what is left of the process, and free its pipes; once.

        Returns:
            The exit status, negative after a signal.
        """
        self._selector.unregister(self._sound_fd)
        while self._selector.get_map() and self._selector.select(_WAIT_SECONDS):
            self._listen()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_WAIT_SECONDS)
        self.kill()
        # One that hangs in a driver outlives even that; it must not keep us.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WAIT_SECONDS)
        with self._ending:
            self._ended = True
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe
            pipe.close()
        return self._process.returncode or 0

    def kill(self) -> None:
        """End the process and what it started at once; from any thread, any number of times."""
        with self._ending, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._ended:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _listen(self) -> None:
        """Read words that are there, and hand on whole lines."""
        data = os.read(self._words_fd, _WORDS_BYTES)
        if not data:
            self._selector.unregister(self._words_fd)
            data = b"\n"
        *lines, self._words = (self._words + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._said(line.decode(errors="replace").strip())
        # Words without an end are no line.
        self._words = self._words[-_WORDS_BYTES:]
