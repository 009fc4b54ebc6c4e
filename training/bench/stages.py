"""CPU time of a loop by stage. Each moment counts towards the innermost active stage."""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Result = TypeVar("_Result")
OUTSIDE = "loop"


class Stages:
    """CPU time of the current thread by stage.

    Args:
        names: of the stages to report. Time outside all of them counts as `OUTSIDE`.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = (*names, OUTSIDE)
        self._active = [OUTSIDE]
        self.start()

    def start(self) -> None:
        """Reset all measurements."""
        gc.collect()
        self._seconds = dict.fromkeys(self._names, 0.0)
        self._blocks = sys.getallocatedblocks()
        self._mark = time.thread_time()

    def seconds(self) -> dict[str, float]:
        """CPU seconds since `start`, by stage."""
        self._account()
        return dict(self._seconds)

    def new_blocks(self) -> int:
        """Net number of Python memory blocks allocated since `start`."""
        gc.collect()
        return sys.getallocatedblocks() - self._blocks

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Attribute the body of a `with` statement to a stage."""
        self._account()
        self._active.append(name)
        try:
            yield
        finally:
            self._account()
            self._active.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Wrap a method of an object so that its calls count towards a stage."""
        setattr(owner, method, self._watched(getattr(owner, method), name))

    def _watched(self, function: Callable[..., _Result], name: str) -> Callable[..., _Result]:
        def watched(*arguments: Any) -> _Result:
            with self.stage(name):
                return function(*arguments)

        return watched

    def _account(self) -> None:
        """Add the time since the last mark to the active stage."""
        now = time.thread_time()
        self._seconds[self._active[-1]] += now - self._mark
        self._mark = now
