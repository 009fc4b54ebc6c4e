"""A lock on a run directory, which the system releases when its process ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.runs.files import RunError

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Create a directory if necessary, and keep other processes from writing a run to it.

    On file systems that know no locks, and outside POSIX, nothing is locked.

    Raises:
        RunError: if another process holds the lock.
        OSError: if the directory cannot be written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _NAME).open("ab") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{directory} is in use by another process; wait until it ends, or choose another "
                "directory with --out."
            ) from error
        except OSError:  # not supported here
            pass
        yield
