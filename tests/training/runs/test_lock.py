import subprocess
import sys

import pytest

from training.runs import lock
from training.runs.files import RunError
from training.runs.lock import locked

HOLD = """
import pathlib, sys
from training.runs.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"locked\n"
        with (
            pytest.raises(RunError, match=r"is in use by another process; [^\n]*$"),
            locked(tmp_path / "run"),
        ):
            pytest.fail("two processes hold the lock")
        process.kill()
    with locked(tmp_path / "run"):
        pass


def test_a_file_system_without_locks_locks_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path), locked(tmp_path):
        pass
