"""Holds back log messages while a full-screen view owns the terminal."""

import logging
import time
from collections import deque
from typing import TextIO

_MAX_NOTES = 100


class TerminalLog(logging.Handler):
    """Collects a logger's messages, and logs them to the terminal afterwards.

    Handlers that do not write to the terminal are left alone.

    Args:
        logger: logger to take messages from.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger
        self._notes: deque[str] = deque(maxlen=_MAX_NOTES)
        self._records: deque[logging.LogRecord] = deque(maxlen=_MAX_NOTES)
        self._away: list[tuple[logging.Logger, logging.StreamHandler[TextIO]]] = []

    def add(self, text: str) -> None:
        """Add a note with the time of day."""
        self._notes.append(f"{time.strftime('%H:%M:%S')}  {text}")

    def newest(self, count: int) -> tuple[str, ...]:
        """The latest notes and messages, oldest first."""
        return tuple(self._notes)[-count:]

    def emit(self, record: logging.LogRecord) -> None:
        """Add a log message to the notes."""
        self._records.append(record)
        self.add(record.getMessage())

    def take_over(self) -> None:
        """Stop logging to the terminal."""
        for logger in (self._logger, logging.getLogger()):
            for handler in list(logger.handlers):
                if isinstance(handler, logging.StreamHandler) and handler.stream.isatty():
                    logger.removeHandler(handler)
                    self._away.append((logger, handler))
        self._logger.addHandler(self)

    def give_back(self) -> None:
        """Log to the terminal again, starting with the messages held back."""
        self._logger.removeHandler(self)
        for logger, handler in self._away:
            logger.addHandler(handler)
            for record in self._records:
                if record.levelno >= handler.level:
                    handler.handle(record)
        self._away.clear()
