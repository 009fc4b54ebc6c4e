"""An event: a sound with a start and an end."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

# The label of events that resemble no class.
UNKNOWN = "unknown"

EndReason = Literal["quiet", "longest", "gap", "stopped"]


@dataclass(frozen=True)
class Event:
    """One detected sound: its label, times, scores and level.

    The times are those of the sound, as `edge.events.locating` estimates them, not those of the
    windows that contain it.

    Args:
        id: unique, and sorts by start time; see `event_id`.
        label: the class; `"unknown"` for a sound that resembles no class.
        start_seconds: start of the sound in the stream.
        end_seconds: its end; None while it lasts.
        peak_score: highest smoothed score so far, 0 to 1.
        mean_score: mean smoothed score so far.
        level_dbfs: level of the loudest window in dBFS.
        started_at: Unix time of the start, if the stream is live.
        ended_at: Unix time of the end, if the stream is live: `started_at` plus the duration, so
            that setting the clock meanwhile does not change the duration.
        end_reason: why the event ended: the sound ended (`"quiet"`), the event reached the
            longest duration (`"longest"`), the stream broke (`"gap"`) or ended (`"stopped"`).
        clip: file name of the recording, if there is one.
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
        """Whether this reports the start or the end."""
        return "started" if self.end_seconds is None else "ended"

    @property
    def duration_seconds(self) -> float | None:
        """Duration of the sound; None while it lasts."""
        return None if self.end_seconds is None else self.end_seconds - self.start_seconds

    def to_json(self) -> dict[str, Any]:
        """Plain values; every key is always present, with None for unknown values.

        In addition to the fields: `type` (`"event"`), `state` (`"started"` or `"ended"`),
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
    """Make an event id that is valid in file names, topics and URLs and sorts by start time.

    Args:
        number: number of earlier events in this run. It keeps ids unique within a millisecond and
            after the clock was set back.
        start_seconds: start in the stream, used for recordings.
        started_at: Unix time of the start, used for live streams: ids of two runs differ.

    Returns:
        `"20261123T101503.250Z-0007"`, or `"00000012.250-0007"` for a recording.
    """
    if started_at is None:
        return f"{start_seconds:012.3f}-{number:04d}"
    moment = _utc(started_at)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{number:04d}"


# In reading order.
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
    """Round scores and levels as in classifications, and times to the millisecond."""
    return round(value, _DIGITS.get(key, 3)) if isinstance(value, float) else value


def _iso_utc(unix_seconds: float | None) -> str | None:
    if unix_seconds is None:
        return None
    return _utc(unix_seconds).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _utc(unix_seconds: float) -> datetime:
    # Round first: `isoformat` truncates, and 0.2499999 s would become 249 ms.
    return datetime.fromtimestamp(round(unix_seconds, 3), UTC)
