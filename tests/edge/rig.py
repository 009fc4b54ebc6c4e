"""The listener as a process, and its output with arrival times."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, TypeVar

T = TypeVar("T")

# The command, with other defaults of `MicrophoneSource`.
_WITH_LIMITS = """
import json, sys
from edge.cli import main
from edge.sources.microphone import MicrophoneSource
MicrophoneSource.__init__.__kwdefaults__.update(json.loads(sys.argv.pop(1)))
sys.exit(main())
"""

_PRIORITY = -10
# Timeout of every wait; long, because the machine may be busy.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Line:
    """A line that the listener wrote.

    Args:
        at: monotonic time of its arrival.
        text: a line of stderr.
        values: the JSON object of a line of stdout.
    """

    at: float
    text: str
    values: dict[str, Any] = field(default_factory=dict)


class Process:
    """A process of `semanticac-edge --json`, as a context manager that ends it.

    Args:
        arguments: options after the model.
        model: the bundle; None for the default.
        environment: variables to add to ours.
        stdin: standard input, as for `subprocess.Popen`.
        keep: keys to keep of each window's values; all by default.
        limits: of the microphone, which replace defaults of `MicrophoneSource`.

    Attributes:
        started_at: monotonic time of the start.
        words: lines of stderr.
    """

    def __init__(
        self,
        *arguments: str | Path,
        model: Path | None,
        environment: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        keep: Collection[str] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        script = Path(sys.executable).with_name("semanticac-edge")
        program = [str(script)] if script.exists() else [sys.executable, "-m", "edge"]
        if limits:
            program = [sys.executable, "-c", _WITH_LIMITS, json.dumps(limits)]
        choice = [] if model is None else ["--model", str(model)]
        command = [*program, *choice, "--json", *map(str, arguments)]
        self._keep = keep
        self._lines: list[Line] = []
        self.words: list[Line] = []
        self._changed = threading.Condition()
        self._reads = threading.Event()
        self._reads.set()
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
        assert self._process.stdout
        assert self._process.stderr
        self.stdout_fd = self._process.stdout.fileno()
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._lines, True)),
            threading.Thread(target=self._read, args=(self._process.stderr, self.words, False)),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if it runs, and join its threads."""
        self._reads.set()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Pipe to its standard input."""
        assert self._process.stdin
        return self._process.stdin

    def prioritise(self) -> None:
        """Let it run before other processes, where permitted; call it before it starts threads.

        On a device, a listener shares its cores with little else.
        """
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, self.pid, _PRIORITY)

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; return the monotonic time of sending."""
        self._process.send_signal(number)
        return time.monotonic()

    @contextlib.contextmanager
    def not_read(self) -> Iterator[None]:
        """Stop reading its stdout."""
        self._reads.clear()
        yield
        self._reads.set()

    def of(self, kind: str, since: float = 0.0) -> list[Line]:
        """Return the lines of a type that arrived since a monotonic time."""
        with self._changed:
            return [
                line for line in self._lines if line.values["type"] == kind and line.at >= since
            ]

    def events(self, state: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Return the events of a state, `"started"` or `"ended"`."""
        events = [line.values for line in self.of("event", since)]
        return [event for event in events if event["state"] == state]

    def find_word(self, text: str, since: float = 0.0) -> Line | None:
        """Return the first line of stderr that contains the text."""
        with self._changed:
            return next(
                (line for line in self.words if text in line.text and line.at > since), None
            )

    def wait(self, what: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
        """Wait until a function returns a true value; return that value."""
        deadline = time.monotonic() + seconds
        while True:
            if value := what():
                return value
            assert self._process.poll() is None, f"the listener ended: {self._report()}"
            assert time.monotonic() < deadline, f"timeout after {seconds} s: {self._report()}"
            with self._changed:
                self._changed.wait(0.1)

    def wait_for_windows(self, count: int = 1) -> list[Line]:
        """Wait for this many new windows and return them."""
        since = time.monotonic()
        return self.wait(
            lambda: windows if len(windows := self.of("window", since)) >= count else None
        )

    def wait_for_silence(self) -> None:
        """Wait for a new window that contains no sound."""
        since = time.monotonic()
        self.wait(lambda: any(line.values["gated"] for line in self.of("window", since)))

    def wait_for_word(self, text: str, since: float = 0.0) -> Line:
        """Wait for a line of stderr that contains the text."""
        line = self.wait(lambda: self.find_word(text, since))
        assert line
        return line

    def wait_for_event(self, state: str, label: str, since: float) -> dict[str, Any]:
        """Wait for an event of a label that arrived since a monotonic time."""
        return self.wait(
            lambda: next(
                (event for event in self.events(state, since) if event["label"] == label), None
            )
        )

    def lag(self, since: float, until: float = float("inf")) -> float:
        """Return how far stream time lags behind the clock, from the windows of a period.

        Lines can arrive late but never early, so this is the smallest difference.
        """
        windows = [line for line in self.of("window", since) if line.at <= until]
        return min(line.at - line.values["end_seconds"] for line in windows)

    def wait_for_end(self) -> int:
        """Wait until the process ends by itself; return its exit status."""
        status = self._process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join()
        self._check_end()
        return status

    def stop(self) -> None:
        """Send SIGTERM, as systemd does, and assert a clean exit."""
        self.signal(signal.SIGTERM)
        assert self.wait_for_end() == 0, self._report()

    def _check_end(self) -> None:
        """Assert that each event ended exactly once, without a traceback."""
        started = [event["id"] for event in self.events("started")]
        ended = [event["id"] for event in self.events("ended")]
        assert len(set(started)) == len(started)
        assert sorted(started) == sorted(ended)
        assert not self.find_word("Traceback"), self._report()

    def _read(self, pipe: IO[bytes], lines: list[Line], is_json: bool) -> None:
        while True:
            if is_json:
                self._reads.wait()
            raw = pipe.readline()
            if not raw:
                return
            text = raw.decode().rstrip("\n")
            line = Line(time.monotonic(), text)
            if is_json:
                line = Line(line.at, "", self._values(text))
            with self._changed:
                lines.append(line)
                self._changed.notify_all()

    def _values(self, text: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(text)
        if self._keep is None or values["type"] != "window":
            return values
        return {key: values[key] for key in self._keep}

    def _report(self) -> str:
        gaps = [line.values for line in self.of("gap")]
        events = [
            (event["label"], event["start_seconds"], event["end_seconds"])
            for event in (line.values for line in self.of("event"))
        ]
        return "\n".join([*(line.text for line in self.words), f"gaps {gaps}, events {events}"])
