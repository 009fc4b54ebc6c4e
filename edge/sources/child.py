"""A child process that writes audio to stdout and messages to stderr."""

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
_MESSAGE_BYTES = 65_536


class StallError(Exception):
    """The process wrote no audio for too long."""


class Child:
    """Starts a process and reads its output.

    The process leads its own process group: a Ctrl-C in the terminal does not reach it, and `kill`
    also ends the processes that it started.

    Args:
        command: program and arguments.
        on_message: called with each line that the process writes to stderr, from within `read`.

    Raises:
        OSError: if the process cannot be started.
    """

    def __init__(self, command: Sequence[str], on_message: Callable[[str], None]) -> None:
        self._on_message = on_message
        self._partial_line = b""
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
        self._audio_fd = self._process.stdout.fileno()
        self._message_fd = self._process.stderr.fileno()
        self._selector = selectors.DefaultSelector()
        for fd in (self._audio_fd, self._message_fd):
            self._selector.register(fd, selectors.EVENT_READ)

    def read(self, size: int, patience_seconds: float) -> bytes:
        """Read the next bytes from stdout.

        Args:
            size: largest number of bytes.
            patience_seconds: longest wait. Time during which this process itself was stopped counts
                as half a second at most.

        Returns:
            The bytes; empty at the end of the stream and after `kill`.

        Raises:
            StallError: if no bytes arrive in time.
        """
        waited = 0.0
        while waited < patience_seconds:
            start = time.monotonic()
            ready = [key.fd for key, _ in self._selector.select(_WAIT_SECONDS)]
            # Messages first: they may be about the audio.
            if self._message_fd in ready:
                self._read_messages()
            if self._audio_fd in ready:
                return os.read(self._audio_fd, size)
            waited += min(time.monotonic() - start, _WAIT_SECONDS)
        raise StallError(f"no data for {patience_seconds:g} s")

    def read_exactly(self, size: int, patience_seconds: float) -> bytes:
        """Read `size` bytes from stdout, waiting up to `patience_seconds` for each part.

        Raises:
            EOFError: if the stream ends first.
            StallError: if no bytes arrive in time.
        """
        data = b""
        while len(data) < size:
            part = self.read(size - len(data), patience_seconds)
            if not part:
                raise EOFError
            data += part
        return data

    def finish(self) -> int:
        """Read the last messages, end the process and close its pipes; call it once.

        Returns:
            The exit status, negative after a signal.
        """
        self._selector.unregister(self._audio_fd)
        while self._selector.get_map() and self._selector.select(_WAIT_SECONDS):
            self._read_messages()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_WAIT_SECONDS)
        self.kill()
        # A process that hangs in a driver survives even SIGKILL; do not wait for it.
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
        """Kill the process and those it started, from any thread, any number of times."""
        with self._ending, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._ended:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _read_messages(self) -> None:
        """Read available messages and pass on the complete lines."""
        data = os.read(self._message_fd, _MESSAGE_BYTES)
        if not data:
            self._selector.unregister(self._message_fd)
            data = b"\n"
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._on_message(line.decode(errors="replace").strip())
        # Bounded memory for output that never ends a line.
        self._partial_line = self._partial_line[-_MESSAGE_BYTES:]
