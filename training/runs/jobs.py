"""Many runs of `training.fit`, several at once, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from training.runs.run import Run

FIT_PROGRAM = (sys.executable, "-u", "-m", "training.fit")
_POLL_SECONDS = 0.2


class JobsError(Exception):
    """Some runs did not finish."""


@dataclass(frozen=True)
class FitProcess:
    """One run of `training.fit` in a process of its own, finished or still to be made.

    Args:
        run: its directory.
        arguments: of `training.fit`, without `--out` and `--resume`.
        program: the command line before the arguments.
    """

    run: Run
    arguments: tuple[str, ...]
    program: tuple[str, ...] = FIT_PROGRAM

    @property
    def log(self) -> Path:
        """What the run printed, over all its attempts."""
        return self.run.directory / "fit.log"

    def start(self, threads: int) -> subprocess.Popen[bytes]:
        """Begin, or go on where the run stopped.

        Args:
            threads: CPU threads it may use.
        """
        place = "--resume" if self.run.config.exists() else "--out"
        limits = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        self.run.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.program, *self.arguments, place, str(self.run.directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **dict.fromkeys(limits, str(threads))},
                start_new_session=True,  # a terminal's Ctrl-C comes to us alone, and once to it
            )


def run_jobs(jobs: Sequence[FitProcess], at_once: int) -> None:
    """Run what is not finished, sharing the CPU's threads; a failure does not stop the others.

    Ctrl-C, or SIGTERM, is passed on to the runs, which keep what they learned. Called again, they
    go on. A second Ctrl-C kills them.

    Args:
        jobs: the runs.
        at_once: most runs at the same time.

    Raises:
        JobsError: if runs failed.
        KeyboardInterrupt: when all have stopped.
    """
    waiting = deque(job for job in jobs if not job.run.metrics.exists())
    threads = max(1, _cores() // at_once)
    running: dict[FitProcess, subprocess.Popen[bytes]] = {}
    ended = len(jobs) - len(waiting)
    failed = 0
    if ended:
        _say(f"{ended} of {len(jobs)} runs are finished already")
    with _interruptible():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running[waiting[0]] = waiting[0].start(threads)
                    waiting.popleft()
                time.sleep(_POLL_SECONDS)
                for job in [job for job, process in running.items() if process.poll() is not None]:
                    status = running.pop(job).returncode
                    ended += 1
                    failed += status != 0
                    _say(f"{ended}/{len(jobs)} {job.run.directory}: {_outcome(job, status)}")
        except KeyboardInterrupt:
            _say("interrupted; the runs keep what they learned, the same command goes on")
            for process in running.values():
                process.send_signal(signal.SIGINT)
            for process in running.values():
                process.wait()
            raise
        finally:
            for process in running.values():
                process.kill()
    if failed:
        raise JobsError(
            f"{failed} of {len(jobs)} runs failed; what they printed is in their fit.log. "
            "The same command tries them again."
        )


def _outcome(job: FitProcess, status: int) -> str:
    if status == 0:
        figures = json.loads(job.run.metrics.read_text())
        return f"accuracy {figures['accuracy']:.1%} in {figures['training_seconds']:.0f} s"
    lines = job.log.read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return f"failed with status {status}: {last}"


def _cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM raises what Ctrl-C does, and no run inherits a SIGINT that a shell's `&` ignores."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
