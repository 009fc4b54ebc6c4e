"""The child process in which a model of JAX or PyTorch is converted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semanticac_keras import ExportError, export

PARENT = "import sys; from semanticac_keras import export; export._run_child(sys.argv[1:])"


def wait_for(condition):
    deadline = time.monotonic() + 100
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def has_ended(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_child_ends_with_its_parent(number, tmp_path):
    source, target = tmp_path / "model.keras", tmp_path / "model.tflite"
    os.mkfifo(source)  # the child waits for someone to write to it
    command = [sys.executable, "-c", PARENT, str(source), str(target), "float32", "log_mel"]
    parent = subprocess.Popen(command)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("the system does not list children in /proc")
    child = int(wait_for(children.read_text))
    parent.send_signal(number)
    parent.wait(timeout=20)
    try:
        wait_for(lambda: has_ended(child))
    finally:
        if not has_ended(child):
            os.kill(child, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.slow
def test_a_failed_conversion_gives_the_childs_last_line(tmp_path):
    with pytest.raises(ExportError, match=r"failed in the TensorFlow process: .*nowhere"):
        export._run_child([str(tmp_path / "nowhere.keras"), str(tmp_path / "m"), "float32", "x"])
    assert list(tmp_path.iterdir()) == []
