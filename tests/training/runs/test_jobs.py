"""Parallel runs, with a quick stand-in for `training.fit`."""

import os
import signal
import sys
import threading
import time

import pytest

from training.runs import jobs
from training.runs.jobs import FitProcess, JobsError, run_jobs
from training.runs.run import Run

# Options: `--seconds N`, `--fail`, `--beside NAME` (wait until that job has started too), and the
# real one's `--out` or `--resume`.
STAND_IN = """
import json, os, pathlib, sys, time
option = sys.argv[-2]
directory = pathlib.Path(sys.argv[-1])
with (directory / "config.json").open("a") as file:
    print(option, os.environ["OMP_NUM_THREADS"], file=file)
print("a line of the log")
print("epoch", file=sys.stderr)
if "--fail" in sys.argv:
    sys.exit("training.fit: error: no luck")
try:
    (directory / "started").touch()
    if "--beside" in sys.argv:
        other = directory.with_name(sys.argv[sys.argv.index("--beside") + 1])
        for _ in range(3000):
            if (other / "started").exists():
                break
            time.sleep(0.01)
        else:
            sys.exit("the other job has not started")
    time.sleep(float(sys.argv[sys.argv.index("--seconds") + 1]))
except KeyboardInterrupt:
    (directory / "kept").touch()
    sys.exit(130)
(directory / "metrics.json").write_text(json.dumps({"accuracy": 0.5, "training_seconds": 7.0}))
"""


@pytest.fixture
def job(tmp_path):
    """`job(name, *arguments)`: create a job that runs the stand-in."""
    program = (sys.executable, "-u", "-c", STAND_IN)
    return lambda name, *arguments: FitProcess(Run(tmp_path / name), arguments, program)


def starts(*jobs):
    """Return option and thread limit of each start of the jobs."""
    return [job.run.config.read_text().split() for job in jobs]


def interrupt_when_started(started_jobs, number):
    """Send this process a signal once all jobs have started."""

    def wait():
        while not all((job.run.directory / "started").exists() for job in started_jobs):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


def test_runs_all_jobs_and_shares_the_threads(job, monkeypatch, capsys):
    monkeypatch.setattr(jobs, "_cores", lambda: 7)
    three = [job(name, "--seconds", "0") for name in "abc"]
    run_jobs(three, at_once=2)
    assert starts(*three) == [["--out", "3"]] * 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all(line.endswith("accuracy 50.0% in 7 s") for line in lines)

    run_jobs(three, at_once=2)  # nothing is left to do
    assert starts(*three) == [["--out", "3"]] * 3
    assert "3 of 3 runs are already finished" in capsys.readouterr().err


def test_runs_in_parallel(job):
    """Each job waits for the other to start."""
    seconds = ("--seconds", "0")
    run_jobs([job("a", "--beside", "b", *seconds), job("b", "--beside", "a", *seconds)], at_once=2)


def test_one_failure_is_reported_and_the_others_continue(job, capsys):
    good, bad = job("good", "--seconds", "0"), job("bad", "--fail")
    with pytest.raises(JobsError, match="1 of 2 runs failed"):
        run_jobs([bad, good], at_once=1)
    assert good.run.metrics.exists()
    [line] = [line for line in capsys.readouterr().err.splitlines() if "bad" in line]
    assert line.endswith("failed with status 1: training.fit: error: no luck")
    assert "a line of the log" in bad.log.read_text()
    with pytest.raises(JobsError):
        run_jobs([bad, good], at_once=1)
    assert [start[0] for start in starts(good, bad)] == ["--out", "--out"]
    assert starts(bad)[0][2] == "--resume"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_the_runs_save_their_work(job, number):
    two = [job("a", "--seconds", "60"), job("b", "--seconds", "60")]
    before = signal.getsignal(signal.SIGINT)
    interrupt_when_started(two, number)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(two, at_once=2)
    assert signal.getsignal(signal.SIGINT) is before
    for each in two:
        assert (each.run.directory / "kept").exists()
        assert not each.run.metrics.exists()
