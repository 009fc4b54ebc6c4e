"""Process signals as requests: to stop, or to reload the configuration."""

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Self

_STOP = (signal.SIGTERM, signal.SIGINT)
# Not defined on Windows.
_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)


class Requests:
    """A context manager that records signals as requests for the main loop to handle.

    SIGTERM and SIGINT request a stop; a second signal of the same kind kills the process. SIGHUP
    requests a reload, unless the process has lost its terminal: then it requests a stop.

    Attributes:
        stop: the signal that requested a stop, or None.
        reload: whether a reload was requested; the main loop resets it.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self.reload = False
        self._had_terminal = _is_terminal()

    def __enter__(self) -> Self:
        signals = [*_STOP, _HANGUP] if _HANGUP else [*_STOP]
        # Shells make background jobs ignore Ctrl-C; keep it so.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signals.remove(signal.SIGINT)
        self._handlers = {number: signal.signal(number, self._take) for number in signals}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: only record it, since it may interrupt any code."""
        if number == _HANGUP and not (self._had_terminal and not _is_terminal()):
            self.reload = True
            return
        self.stop = self.stop or signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)


def _is_terminal() -> bool:
    try:
        return os.isatty(sys.__stdin__.fileno()) if sys.__stdin__ else False
    except (OSError, ValueError):  # Closed.
        return False
