"""Files of a run: replaced atomically, and named when they cannot be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.files import replacing

_LONGEST_REASON = 200


class RunError(Exception):
    """A run directory does not suit the request, or a run cannot go on."""


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path`, see `edge.files.replacing`.

    Raises:
        RunError: if the file cannot be written, for instance because the disk is full; `path` is
            then unchanged.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    # HDF5 and libsndfile raise `RuntimeError`, too.
    except (OSError, RuntimeError) as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> RunError:
    """Return the error of a file that could not be written, with the reason in one line."""
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number else " ".join(str(error).split())
    return RunError(f"{path} cannot be written: {reason[:_LONGEST_REASON]}.")
