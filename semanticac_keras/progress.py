"""Progress bars on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def progress_bar(
    description: str, total: float | None, enabled: bool, in_bytes: bool = False
) -> Iterator[Callable[[float], None]]:
    """Yield a function that advances a bar on stderr by a number of steps.

    Args:
        description: text beside the bar.
        total: number of steps, or None if unknown.
        enabled: whether to draw anything.
        in_bytes: whether the steps are bytes, shown with their rate.
    """
    count: tuple[ProgressColumn, ...] = (
        (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    )
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *count,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not enabled,
    ) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)
