"""Where a loop's time and memory go: each moment belongs to the innermost stage it is in."""

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Result = TypeVar("_Result")
OUTSIDE = "loop"


class Stages:
    """CPU time of this thread, or memory, by stage.

    Args:
        names: of the stages that are reported; what is in none is `OUTSIDE`.

    Attributes:
        counts_memory: measure memory in the place of time, which takes far longer.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = (*names, OUTSIDE)
        self._inside = [OUTSIDE]
        self.counts_memory = False
        self.start()

    def start(self) -> None:
        """Forget what was measured."""
        if self.counts_memory and not tracemalloc.is_tracing():
            tracemalloc.start()
        gc.collect()
        self._seconds = dict.fromkeys(self._names, 0.0)
        self._most_bytes = dict.fromkeys(self._names, 0)
        self._blocks = sys.getallocatedblocks()
        self._mark()

    def seconds(self) -> dict[str, float]:
        """CPU seconds since `start`, by stage."""
        self._account()
        return dict(self._seconds)

    def most_bytes(self) -> dict[str, int]:
        """The most that a stage had in use at once, beyond what was there when it began."""
        self._account()
        return dict(self._most_bytes)

    def new_blocks(self) -> int:
        """Blocks of Python's memory that are in use now and were not at `start`."""
        gc.collect()
        return sys.getallocatedblocks() - self._blocks

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside belongs to that stage."""
        self._account()
        self._inside.append(name)
        try:
            yield
        finally:
            self._account()
            self._inside.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """From now on an object's method belongs to that stage."""
        setattr(owner, method, self._watched(getattr(owner, method), name))

    def _watched(self, function: Callable[..., _Result], name: str) -> Callable[..., _Result]:
        def watched(*arguments: Any) -> _Result:
            with self.stage(name):
                return function(*arguments)

        return watched

    def _account(self) -> None:
        """Give what was spent since the last mark to the stage we are in."""
        name = self._inside[-1]
        if self.counts_memory:
            _, peak = tracemalloc.get_traced_memory()
            self._most_bytes[name] = max(self._most_bytes[name], peak - self._marked_bytes)
        else:
            self._seconds[name] += time.thread_time() - self._marked_seconds
        self._mark()

    def _mark(self) -> None:
        if self.counts_memory:
            tracemalloc.reset_peak()
            self._marked_bytes, _ = tracemalloc.get_traced_memory()
        else:
            self._marked_seconds = time.thread_time()
