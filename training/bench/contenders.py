"""The processes that compete, as the one that runs the benchmark sees them."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self


class ContenderError(Exception):
    """A contender cannot take part; the message says why."""


class Contender:
    """A process that answers lines with lines of JSON; `{"error": ...}` is its last.

    Args:
        command: what it runs.
        environment: variables that it gets besides ours.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the process)
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        except OSError:
            self._log.close()
            raise

    def send(self, line: str) -> None:
        """Ask for something; `receive` tells if nobody listens."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            print(line, file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            ContenderError: if the contender failed instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["no message"])[-1]
            raise ContenderError(f"its process ended with status {status}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


class Contest:
    """Contenders that are asked in turns, as a context manager that ends them.

    Attributes:
        running: those that have not failed, by name.
        left_out: the others, and why.
    """

    def __init__(self) -> None:
        self.running: dict[str, Contender] = {}
        self.left_out: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for contender in self.running.values():
            contender.close()

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Start another one and wait for what it says first.

        Args:
            name: not one of those there are.
            command: see `Contender`.
            environment: see `Contender`.

        Returns:
            Its answer by its name; nothing if it failed, which leaves it out.
        """
        try:
            self.running[name] = Contender(command, environment)
        except OSError as error:
            self.left_out[name] = f"{command[0]} cannot be started: {error.strerror}"
            return {}
        return self.ask({name: ""})

    def ask(self, lines: Mapping[str, str]) -> dict[str, Any]:
        """Ask some of those that run, all at once.

        Args:
            lines: what to ask, by name; an empty one only waits for what is due.

        Returns:
            Answers by name. Who fails is closed and left out.
        """
        for name, line in lines.items():
            if line:
                self.running[name].send(line)
        answers = {}
        for name in lines:
            try:
                answers[name] = self.running[name].receive()
            except ContenderError as error:
                self.left_out[name] = str(error)
                self.running.pop(name).close()
        return answers
