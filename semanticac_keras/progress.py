"""Progress bars on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

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


def create_progress(
    amount: Literal["steps", "bytes", "percent"] = "steps", enabled: bool = True
) -> Progress:
    """Create an unstarted progress display on stderr.

    Args:
        amount: figures after the bar: completed and total steps, bytes with their rate, or the
            completed percentage.
        enabled: whether to draw anything.

    Returns:
        A `rich.progress.Progress` without tasks. Its `console` prints above the bar.
    """
    figures: dict[str, tuple[ProgressColumn, ...]] = {
        "steps": (MofNCompleteColumn(),),
        "bytes": (DownloadColumn(), TransferSpeedColumn()),
        "percent": (TextColumn("{task.percentage:>3.0f}%"),),
    }
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *figures[amount],
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not enabled,
    )


@contextmanager
def progress_bar(
    description: str, total: float | None, enabled: bool, in_bytes: bool = False
) -> Iterator[Callable[[float], None]]:
    """Draw one bar on stderr and yield a function that advances it by a number of steps.

    Args:
        description: text beside the bar.
        total: number of steps, or None if unknown.
        enabled: whether to draw anything.
        in_bytes: whether the steps are bytes, shown with their rate.
    """
    with create_progress("bytes" if in_bytes else "steps", enabled) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)
