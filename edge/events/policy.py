"""The rules that decide what counts as an event."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.inference.streaming import Classification


@dataclass(frozen=True)
class Policy:
    """The rules that decide what counts as an event.

    Each label's score is averaged over the last windows. An event starts once the smoothed score
    and those of two seconds (two windows, if they start a second apart) reach the label's
    threshold; it ends once the smoothed
    score falls below `release` times the threshold. Labels are independent: their events may
    overlap.

    Args:
        threshold: smoothed score at which an event starts, above 0, at most 1.
        thresholds: thresholds of individual labels, which replace `threshold`.
        smoothing_windows: windows in the mean; those before the stream count as silence. 1 turns
            smoothing off. As many as overlap (window / hop) reject most false alarms; more miss
            short sounds.
        release: fraction of the threshold below which an event ends, above 0, at most 1.
        min_seconds: shorter sounds are not reported; the start is reported after this time.
        max_seconds: a longer event ends, and the rest of the sound becomes another event.
        refractory_seconds: time after an event's end in which no event of the same label starts.
            A sound that outlasts it is reported from its end.
        cosine_floor: cosine similarity, -1 to 1, that a label must reach to count in a window. A
            window in which no label reaches it is "unknown". None disables the floor.
        report_unknown: report events of "unknown".

    Raises:
        ValueError: if a value is out of range.
    """

    # Two clear windows of three suffice: with windows of two or three hops, a short bark is in no
    # more.
    threshold: float = 0.6
    thresholds: Mapping[str, float] = field(default_factory=dict)
    smoothing_windows: int = 3
    release: float = 0.5
    min_seconds: float = 0.0
    max_seconds: float = 300.0
    refractory_seconds: float = 5.0
    cosine_floor: float | None = None
    report_unknown: bool = False

    def __post_init__(self) -> None:
        for name, threshold in {"threshold": self.threshold, **self.thresholds}.items():
            _check(0 < threshold <= 1, f"threshold of {name!r}", "above 0, at most 1", threshold)
        windows = self.smoothing_windows
        _check(
            isinstance(windows, int) and windows >= 1, "smoothing_windows", "at least 1", windows
        )
        _check(0 < self.release <= 1, "release", "above 0, at most 1", self.release)
        _check(self.min_seconds >= 0, "min_seconds", "at least 0", self.min_seconds)
        _check(
            0 <= self.min_seconds <= self.max_seconds < math.inf and self.max_seconds > 0,
            "max_seconds",
            "finite, above 0 and at least min_seconds",
            self.max_seconds,
        )
        _check(
            0 <= self.refractory_seconds < math.inf,
            "refractory_seconds",
            "finite, at least 0",
            self.refractory_seconds,
        )
        floor = self.cosine_floor
        _check(floor is None or -1 <= floor <= 1, "cosine_floor", "in -1 .. 1, or None", floor)
        _check(
            floor is not None or not self.report_unknown,
            "report_unknown",
            "used with a cosine_floor, which defines unknown sounds",
            self.report_unknown,
        )


def is_unknown(window: Classification, cosine_floor: float | None) -> bool:
    """Whether the window has sound and every label is below the cosine floor."""
    return (
        cosine_floor is not None and not window.gated and float(window.cosines.max()) < cosine_floor
    )


def _check(holds: bool, name: str, expected: str, received: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}. Received: {received}.")
