"""Ctrl-C and SIGTERM: when they act, and what they leave behind."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import keras

_NOTICE = "stopping after this step; Ctrl-C again stops immediately\n"


class StopBetweenSteps(keras.callbacks.Callback):
    """Raise `KeyboardInterrupt` after the step in which an interrupt was requested.

    It must come after the callbacks that save an epoch.

    Attributes:
        requested: whether to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop after a step of the training."""
        self._stop_if_requested()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop after a step of the validation."""
        self._stop_if_requested()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop after the epoch, once it is saved."""
        self._stop_if_requested()

    def _stop_if_requested(self) -> None:
        if self.requested:
            raise KeyboardInterrupt


@contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit`, so that temporary files and child processes are removed.

    Nothing changes where SIGTERM has a handler already, and outside the main thread.
    """
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stopping_between_steps() -> Iterator[StopBetweenSteps]:
    """Let the first Ctrl-C only request a stop; a second one acts as it did before.

    An exception that a signal handler raises inside a backend can crash the process. Where Ctrl-C
    is ignored or ends the process, and outside the main thread, nothing changes.

    Yields:
        The callback that stops the training.
    """
    callback = StopBetweenSteps()
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield callback
        return

    def request(number: int, frame: FrameType | None) -> None:
        callback.requested = True
        signal.signal(signal.SIGINT, before)
        os.write(2, _NOTICE.encode())  # `print` could be what the signal interrupted

    signal.signal(signal.SIGINT, request)
    try:
        yield callback
    finally:
        signal.signal(signal.SIGINT, before)
