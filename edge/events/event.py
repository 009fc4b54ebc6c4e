"""An event: a sound that began, and always ends."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

# The label of events that no class is near to.
UNKNOWN = "unknown"

EndReason = Literal["quiet", "longest", "gap", "stopped"]


@dataclass(frozen=True)
class Event:
    """A label that was heard for a while.

    The times are those of the sound, as `edge.events.locating` estimates them, not those of the
    windows in which it was heard.

    Args:
        id: unique, and sorts by the time of the start, see `event_id`.
        label: the class; `"unknown"` where something sounds and no label is near.
        start_seconds: when the sound began, in the stream.
        end_seconds: when it ended; None while it lasts.
        peak_score: highest smoothed score so far, 0 to 1.
        mean_score: mean smoothed score so far.
        level_dbfs: loudest window's level, decibels below full scale.
        started_at: start as Unix time, if the stream is live.
        ended_at: end likewise; by the stream's time, so that a clock that is set meanwhile does
            not change the duration.
        end_reason: why it ended: the sound did (`"quiet"`), it reached the longest duration, the
            stream broke, or listening stopped.
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

    @property
    def state(self) -> Literal["started", "ended"]:
        """Which of its two moments this is."""
        return "started" if self.end_seconds is None else "ended"

    @property
    def duration_seconds(self) -> float | None:
        """How long the sound lasted; None while it lasts."""
        return None if self.end_seconds is None else self.end_seconds - self.start_seconds

    def to_json(self) -> dict[str, Any]:
        """Plain values; every key is always there, with None for what is not known.

        Beside the fields: `type` (`"event"`), `state` (`"started"` or `"ended"`),
        `duration_seconds`, and the Unix times as ISO 8601 in UTC (`started_utc`, `ended_utc`).
        """
        values = asdict(self) | {
            "type": "event",
            "state": self.state,
            "duration_seconds": self.duration_seconds,
            "started_utc": _iso_utc(self.started_at),
            "ended_utc": _iso_utc(self.ended_at),
        }
        return {key: _rounded(key, values[key]) for key in _KEYS}


def event_id(number: int, start_seconds: float, started_at: float | None = None) -> str:
    """A name for an event: fit for a file, a topic or a URL, and sorted by the start.

    Args:
        number: how many events came before it in this run: what starts in the same millisecond,
            or again after the clock was set back, still differs.
        start_seconds: start in the stream, used for recordings.
        started_at: start as Unix time, used where there is one: two runs differ.

    Returns:
        `"20261123T101503.250Z-0007"`, or `"00000012.250-0007"` for a recording.
    """
    if started_at is None:
        return f"{start_seconds:012.3f}-{number:04d}"
    moment = _utc(started_at)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{number:04d}"


# The order in which a reader of a line wants them.
_KEYS = (
    "type",
    "state",
    "id",
    "label",
    "start_seconds",
    "end_seconds",
    "duration_seconds",
    "peak_score",
    "mean_score",
    "level_dbfs",
    "started_at",
    "started_utc",
    "ended_at",
    "ended_utc",
    "end_reason",
    "clip",
)
_DIGITS = {"peak_score": 6, "mean_score": 6, "level_dbfs": 2}


def _rounded(key: str, value: Any) -> Any:
    """Scores and levels as the windows give them, times to the millisecond."""
    return round(value, _DIGITS.get(key, 3)) if isinstance(value, float) else value


def _iso_utc(unix_seconds: float | None) -> str | None:
    if unix_seconds is None:
        return None
    return _utc(unix_seconds).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _utc(unix_seconds: float) -> datetime:
    # To the millisecond first: `isoformat` cuts, and 0.2499999 s would read as 249 ms.
    return datetime.fromtimestamp(round(unix_seconds, 3), UTC)
