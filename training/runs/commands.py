"""How all commands end: with a status, and an error or an interrupt as one line."""

import sys
from collections.abc import Callable

from edge.inference.bundle import BundleError
from semanticac_keras import CheckpointError, ExportError
from semanticac_keras.download import DownloadError
from training.corpus.sources import CorpusError
from training.datasets import DatasetError
from training.runs.files import RunError
from training.runs.jobs import JobsError

_ERRORS = (
    BundleError,
    CheckpointError,
    CorpusError,
    DatasetError,
    DownloadError,
    ExportError,
    JobsError,
    RunError,
    OSError,
    ValueError,
)


def status_of(program: str, command: Callable[[], int | None], to_continue: str = "") -> int:
    """Run a command, and print an error of the user's or an interrupt as one line on stderr.

    Args:
        program: name for the messages.
        command: does the work; returns the exit status, None for 0.
        to_continue: what to do after an interrupt.

    Returns:
        Exit status: the command's, 1 after an error, 130 after an interrupt.
    """
    try:
        return command() or 0
    except KeyboardInterrupt:
        advice = f"; {to_continue}" if to_continue else ""
        print(f"{program}: interrupted{advice}", file=sys.stderr)
        return 130
    except _ERRORS as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
