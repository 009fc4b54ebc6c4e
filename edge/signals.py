"""What signals ask of a process: to stop, or to read its configuration again."""

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Self

_STOP = (signal.SIGTERM, signal.SIGINT)
# Windows has none.
_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)


class Requests:
    """Turns signals into requests that the loop grants when it is ready to, as a context manager.

    SIGTERM and SIGINT ask to stop; the second one of the same kind kills. SIGHUP asks to reload,
    but where it means that our terminal is gone, to stop.

    Attributes:
        stop: the signal that asked, or None.
        reload: whether a reload is asked for; who grants it sets it back.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self.reload = False
        self._had_terminal = _is_terminal()

    def __enter__(self) -> Self:
        signals = [*_STOP, _HANGUP] if _HANGUP else [*_STOP]
        # A shell lets its background jobs ignore the Ctrl-C that is meant for others.
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
        """The handler: it only makes a note, as it may come in the middle of anything."""
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
