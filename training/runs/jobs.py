"""Parallel runs of `training.fit`, each in its own process."""

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

from training.runs.run import MEASURES, Run

FIT_PROGRAM = (sys.executable, "-u", "-m", "training.fit")
_POLL_SECONDS = 0.2


class JobsError(Exception):
    """At least one run failed."""


@dataclass(frozen=True)
class FitProcess:
    """One run of `training.fit` in its own process, pending or finished.

    Args:
        run: run directory.
        arguments: arguments of `training.fit`, without `--out` and `--resume`.
        program: command line before the arguments.
    """

    run: Run
    arguments: tuple[str, ...]
    program: tuple[str, ...] = FIT_PROGRAM

    @property
    def log(self) -> Path:
        """Output of the run, over all its attempts."""
        return self.run.directory / "fit.log"

    def start(self, threads: int) -> subprocess.Popen[bytes]:
        """Start the run, or resume it.

        Args:
            threads: number of CPU threads it may use.
        """
        option = "--resume" if self.run.config.exists() else "--out"
        limits = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        self.run.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.program, *self.arguments, option, str(self.run.directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **dict.fromkeys(limits, str(threads))},
                start_new_session=True,  # Ctrl-C reaches only this process, which passes it on once
            )


def run_jobs(jobs: Sequence[FitProcess], at_once: int) -> None:
    """Run all unfinished jobs, sharing the CPU's threads. One failure does not stop the others.

    Ctrl-C or SIGTERM interrupts the runs, which keep the weights trained so far; the next call
    resumes them. A second Ctrl-C kills them.

    Args:
        jobs: the runs.
        at_once: largest number of parallel runs.

    Raises:
        JobsError: if a run failed.
        KeyboardInterrupt: after an interrupt, once all runs have stopped.
    """
    waiting = deque(job for job in jobs if not job.run.metrics.exists())
    threads = max(1, _cores() // at_once)
    running: dict[FitProcess, subprocess.Popen[bytes]] = {}
    ended = len(jobs) - len(waiting)
    failed = 0
    if ended:
        _print(f"{ended} of {len(jobs)} runs are already finished")
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
                    _print(f"{ended}/{len(jobs)} {job.run.directory}: {_outcome(job, status)}")
        except KeyboardInterrupt:
            _print("interrupted; the same command resumes the runs")
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
            f"{failed} of {len(jobs)} runs failed; see fit.log in their directories. "
            "The same command retries them."
        )


def _outcome(job: FitProcess, status: int) -> str:
    if status == 0:
        figures = json.loads(job.run.metrics.read_text())
        key = next(key for key in MEASURES if key in figures)
        result = f"{key.replace('_', ' ')} {figures[key]:.1%}"
        return f"{result} in {figures['training_seconds']:.0f} s"
    lines = job.log.read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    return f"failed with status {status}: {last}"


def _cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _interruptible() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, and let no run inherit the ignored SIGINT of a shell's `&`."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
