"""Child processes of a benchmark and the line protocol to them."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self


class ContenderError(Exception):
    """A contender failed. The message gives the reason."""


class Contender:
    """Child process that answers each line with a line of JSON; `{"error": ...}` is its last.

    Args:
        command: program and arguments.
        environment: variables to add to the current environment.
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
        """Send a request. If the process has ended, `receive` raises."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            print(line, file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """Wait for the next reply.

        Raises:
            ContenderError: if the contender failed.
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
        """Kill the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


class Contest:
    """Context manager for contenders. Kills the processes on exit.

    Attributes:
        running: contenders that have not failed, by name.
        left_out: reasons of the contenders that failed, by name.
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
        """Start a contender and wait for its first reply.

        Args:
            name: unique name.
            command: see `Contender`.
            environment: see `Contender`.

        Returns:
            Its reply by name, or an empty dictionary if it failed.
        """
        try:
            self.running[name] = Contender(command, environment)
        except OSError as error:
            self.left_out[name] = f"{command[0]} cannot be started: {error.strerror}"
            return {}
        return self.ask({name: ""})

    def ask(self, lines: Mapping[str, str]) -> dict[str, Any]:
        """Send requests to running contenders in parallel and wait for the replies.

        Args:
            lines: requests by name; an empty line sends nothing and only waits for a reply.

        Returns:
            Replies by name. A contender that fails is closed and moved to `left_out`.
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
