"""A file that is written through `replacing` is either complete or unchanged."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from edge.files import replacing

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, limits and permissions")


@pytest.fixture
def path(tmp_path):
    """An existing file, alone in its directory."""
    path = tmp_path / "result.json"
    path.write_text("old")
    return path


def write(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


def assert_unchanged(path):
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_new_file_appears_at_the_end(path):
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_replacing_keeps_the_old_file_on_failure(path):
    def fail_halfway():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail_halfway()
    assert_unchanged(path)


@posix
def test_a_killed_process_keeps_the_old_file(path):
    code = (
        "import os, signal, sys\n"
        "from edge.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half of the n')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    # What it left cannot be mistaken for a result.
    (left,) = set(path.parent.iterdir()) - {path}
    assert left.name.startswith(".")


@posix
def test_a_write_that_runs_out_of_space_keeps_the_old_file(path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            write(path, "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_unchanged(path)


def test_a_disk_that_fails_at_the_sync_keeps_the_old_file(path, monkeypatch):
    """File systems that allocate late report a full disk only there."""

    def fail(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(path, "new")
    assert_unchanged(path)


def test_a_directory_that_cannot_be_made_is_an_error(path):
    with pytest.raises(OSError, match=r"result\.json"):
        write(path / "below a file", "new")
    assert_unchanged(path)


@posix
def test_replacing_replaces_with_ordinary_rights(tmp_path):
    path, ordinary = tmp_path / "new" / "result.json", tmp_path / "ordinary"
    write(path, "new")
    ordinary.write_text("")
    assert path.read_text() == "new"
    assert path.stat().st_mode == ordinary.stat().st_mode
