"""Processes that write, fall silent, chatter, and leave others behind."""

import os
import signal
import sys
import threading
import time

import pytest

from edge.sources.child import Child, StallError


@pytest.fixture
def start():
    """`start(code)`: a child that runs it, and the list of what it says."""
    children = []

    def start(code):
        words = []
        children.append(Child([sys.executable, "-c", code], words.append))
        return children[-1], words

    yield start
    for child in children:
        child.kill()


def test_sound_words_and_status_arrive(start):
    child, words = start(
        "import os, sys\n"
        "os.write(2, b'one\\ntwo'); os.write(1, b'abc'); os.write(2, b' parts\\n\\xff\\n')\n"
        "os.write(1, b'def'); os.write(2, b'last'); sys.exit(3)"
    )
    assert child.read_exactly(5, 5) == b"abcde"
    assert child.read(100, 5) == b"f"
    with pytest.raises(EOFError):
        child.read_exactly(1, 5)
    assert child.finish() == 3
    assert words == ["one", "two parts", "\ufffd", "last"]


def test_words_are_no_sound(start):
    child, words = start(
        "import sys, time\nwhile True: print('so', file=sys.stderr), time.sleep(0.1)"
    )
    started = time.monotonic()
    with pytest.raises(StallError, match="no data for 1 s"):
        child.read(1, 1.0)
    assert time.monotonic() - started == pytest.approx(1.0, abs=0.4)
    assert words
    child.kill()
    assert child.finish() == -signal.SIGKILL


def test_kill_ends_a_read_in_another_thread_and_what_the_child_started(start):
    child, _ = start(
        "import subprocess, sys, time\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(f'{grandchild.pid:9}', end='', flush=True); time.sleep(60)"
    )
    grandchild = int(child.read_exactly(9, 5))
    threading.Timer(0.2, child.kill).start()
    assert child.read(1, 10) == b""
    child.finish()
    child.kill()
    # Whoever adopted it may not have buried it yet.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{grandchild}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except OSError:
            return
        time.sleep(0.01)
    os.kill(grandchild, signal.SIGKILL)
    raise AssertionError("what the child started is still there")


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Child([str(tmp_path / "nothing")], print)
