"""What counts as an event."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.inference.streaming import Classification


@dataclass(frozen=True)
class Policy:
    """What counts as an event.

    A label's score is smoothed over the last windows. An event starts once the smoothed score, and
    at least two of the smoothed ones themselves, reach the label's threshold; it ends once the
    smoothed score is below `release` times the threshold. Labels are decided each on its own:
    events of several may overlap.

    Args:
        threshold: smoothed score from which an event starts, above 0, at most 1.
        thresholds: the same for single labels, in place of `threshold`.
        smoothing_windows: windows in the mean; those before the stream count as silence. 1 is off.
            As many as overlap each other (window / hop) keep out most; more miss short sounds.
        release: share of the threshold below which an event ends, above 0, at most 1.
        min_seconds: sounds shorter than this are not reported; the start waits that long.
        max_seconds: an event that lasts longer ends; the sound's rest is another event.
        refractory_seconds: after an event's end, none of the same label starts for so long. A
            sound that goes on after it is reported from there.
        cosine_floor: cosine similarity that a label must reach to count in a window, from -1 to 1;
            where no label does, the window is "unknown". None: any will do.
        report_unknown: make events of "unknown".

    Raises:
        ValueError: if a value is out of its range.
    """

    # Two clear windows of three are enough: a bark of a moment is in no more where a window spans
    # two or three hops.
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
            "used with a cosine_floor, without which nothing is unknown",
            self.report_unknown,
        )


def is_unknown(window: Classification, cosine_floor: float | None) -> bool:
    """Whether something sounds in the window and no label is near enough."""
    return (
        cosine_floor is not None and not window.gated and float(window.cosines.max()) < cosine_floor
    )


def _check(holds: bool, name: str, expected: str, received: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}. Received: {received}.")
