"""The command `semanticac-edge`: it listens, unless the first argument names another command."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from edge.config.options import CommandParser, SettingsError
from edge.inference.bundle import BundleError
from edge.release import installed_version
from edge.sources import SourceError

PROGRAM = "semanticac-edge"

# Each a module with a DESCRIPTION, `add_arguments(parser)` and `run(arguments)`.
_LISTEN = "edge.commands.listen"
_COMMANDS = {
    "tune": "edge.commands.tune",
    "check": "edge.commands.check",
    "install-service": "edge.commands.service",
    "model": "edge.commands.model",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after Ctrl-C.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`, `--version`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = _COMMANDS.get(argv[0]) if argv else None
    module = importlib.import_module(command or _LISTEN)
    others = "" if command else f"\n       %(prog)s {'|'.join(_COMMANDS)} [options]"
    parser = CommandParser(
        program=PROGRAM,
        prog=f"{PROGRAM} {argv[0]}" if command else PROGRAM,
        usage=f"%(prog)s [options]{others}",
        description=module.DESCRIPTION,
    )
    version = installed_version() or "(not installed)"
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version}")
    module.add_arguments(parser)
    arguments = parser.parse_args(argv[1:] if command else argv)
    _log_to_stderr()
    try:
        status: int = module.run(arguments)
    except SettingsError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _abandon_stdout()
        return 0
    except (BundleError, SourceError, ImportError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError):
            _abandon_stdout()
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return status


class _Formatter(logging.Formatter):
    """Time, level and message; the journal has its own time, and reads the level off a number."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        message = " ".join(record.getMessage().split())
        if "JOURNAL_STREAM" in os.environ:
            return f"<{_SYSLOG_LEVELS.get(record.levelno, 6)}>{message}"
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {PROGRAM}: {level}{message}"


_SYSLOG_LEVELS = {logging.ERROR: 3, logging.WARNING: 4}


def _log_to_stderr() -> None:
    logger = logging.getLogger("semanticac_edge")
    logger.setLevel(logging.INFO)
    # Called again in the same process, as tests do, stderr may be another.
    logger.handlers = [logging.StreamHandler()]
    logger.handlers[0].setFormatter(_Formatter())


def _abandon_stdout() -> None:
    """Keep the interpreter from failing again on lines that nobody takes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
