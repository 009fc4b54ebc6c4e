"""Child processes that write, stall, log, and start processes of their own."""

import os
import signal
import sys
import threading
import time

import pytest

from edge.sources.child import Child, StallError


@pytest.fixture
def start():
    """`start(code)`: a child that runs Python code, and the list of its messages."""
    children = []

    def start(code):
        messages = []
        children.append(Child([sys.executable, "-c", code], messages.append))
        return children[-1], messages

    yield start
    for child in children:
        child.kill()


def test_audio_messages_and_status_arrive(start):
    child, messages = start(
        "import os, sys\n"
        "os.write(2, b'one\\ntwo'); os.write(1, b'abc'); os.write(2, b' parts\\n\\xff\\n')\n"
        "os.write(1, b'def'); os.write(2, b'last'); sys.exit(3)"
    )
    assert child.read_exactly(5, 5) == b"abcde"
    assert child.read(100, 5) == b"f"
    with pytest.raises(EOFError):
        child.read_exactly(1, 5)
    assert child.finish() == 3
    assert messages == ["one", "two parts", "\ufffd", "last"]


def test_messages_do_not_count_as_audio(start):
    child, messages = start(
        "import sys, time\nwhile True: print('so', file=sys.stderr), time.sleep(0.1)"
    )
    started = time.monotonic()
    with pytest.raises(StallError, match="no data for 1 s"):
        child.read(1, 1.0)
    assert time.monotonic() - started == pytest.approx(1.0, abs=0.4)
    assert messages
    child.kill()
    assert child.finish() == -signal.SIGKILL


def test_kill_ends_a_read_in_another_thread_and_grandchildren(start):
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
    # Its new parent may not have reaped it yet.
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
    raise AssertionError("the grandchild is still running")


def test_a_missing_program_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Child([str(tmp_path / "nothing")], print)
