"""An event: a sound that began, and always ends."""

from dataclasses import dataclass
from typing import Any, Literal

EndReason = Literal["quiet", "longest", "gap", "stopped"]


@dataclass(frozen=True)
class Event:
    """A label that was heard for a while.

    Args:
        id: unique, and sorts by time.
        label: the class; `"unknown"` where something sounds and no label is near.
        start_seconds: start of the first window that heard it, in the stream.
        end_seconds: end of the last window that heard it; None while it lasts.
        peak_score: highest smoothed score so far, 0 to 1.
        mean_score: mean smoothed score so far.
        level_dbfs: loudest window's level, decibels below full scale.
        started_at: start as Unix time, if the stream is live.
        ended_at: end likewise.
        end_reason: why it ended: the sound did, it reached the longest duration, the stream broke,
            or listening stopped.
        clip: file name of its recording, if one is made.
    """

    id: str
    label: str
    start_seconds: float
    end_seconds: float | None
    peak_score: float
    mean_score: float
    level_dbfs: float
    started_at: float | None = None
    ended_at: float | None = None
    end_reason: EndReason | None = None
    clip: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, with a `type` that says whether the event starts or ends."""
        raise NotImplementedError
