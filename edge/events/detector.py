"""From the scores of windows to events: the one place that decides what is reported."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.events.event import UNKNOWN, EndReason, Event, event_id
from edge.events.locating import Locator
from edge.events.policy import Policy, is_unknown
from edge.inference.streaming import Classification

__all__ = ["UNKNOWN", "Detector", "Policy"]


_Floats = npt.NDArray[np.float64]
# One window alone never starts an event, whatever the thresholds, unless smoothing is off.
_LEAST_WINDOWS = 2


class Detector:
    """Turns classifications, in the order of the stream, into events.

    What it says depends on the windows only, never on the clock. Every event is given twice, with
    the same id: when it starts and when it ends; `end` ends what is open when the stream does.

    Args:
        policy: what counts as an event.
        labels: the classes, in the order of the scores.
        hop_seconds: time between the starts of two windows. The times of an event are right to a
            hop at best, and none is shorter than half of one.

    Raises:
        ValueError: if `policy.thresholds` names another label, or the labels have an "unknown" of
            their own while the policy reports it.
    """

    def __init__(self, policy: Policy, labels: Sequence[str], hop_seconds: float) -> None:
        self.policy = policy
        self.labels = tuple(labels)
        self._model_labels = self.labels
        if policy.report_unknown:
            if UNKNOWN in self.labels:
                raise ValueError(
                    f"`report_unknown` cannot be used: {UNKNOWN!r} is one of the model's labels."
                )
            self.labels += (UNKNOWN,)
        strangers = sorted(set(policy.thresholds) - set(self.labels))
        if strangers:
            raise ValueError(
                f"`thresholds` must name labels of the model ({', '.join(self.labels)}). "
                f"Received: {', '.join(strangers)}."
            )
        self._hop_seconds = hop_seconds
        thresholds = [policy.thresholds.get(label, policy.threshold) for label in self.labels]
        self._on = np.array(thresholds)
        self._off = policy.release * self._on
        # Scores of the last windows, newest first, (windows, labels).
        self._recent = np.zeros((policy.smoothing_windows, len(self.labels)))
        self._locator = Locator(lookback=policy.smoothing_windows)
        self._sounds: dict[int, _Sound] = {}
        self._ready_seconds = np.full(len(self.labels), -np.inf)
        self._seconds = -np.inf
        self._unix_offset: float | None = None
        self._num_events = 0

    @property
    def open(self) -> tuple[Event, ...]:
        """The events that have started and not ended, as they stand, in the order of labels."""
        return tuple(sound.event for _, sound in sorted(self._sounds.items()) if sound.event)

    def update(self, window: Classification, now: float | None = None) -> list[Event]:
        """Take the next window.

        Args:
            window: its scores are those of the labels given at the start.
            now: Unix time of the window's end; None for a recording.

        Returns:
            The events that start or end, in the order of labels.

        Raises:
            ValueError: if the window ends before the last one, or has other labels.
        """
        if window.labels != self._model_labels:
            raise ValueError(
                f"a window must have the labels {', '.join(self._model_labels)}. "
                f"Received: {', '.join(window.labels)}."
            )
        if window.end_seconds < self._seconds:
            raise ValueError(
                f"a window must end after the last one, at {self._seconds} s. Received: "
                f"{window.end_seconds} s. Call `end` between two streams."
            )
        self._set_time(window.end_seconds, now)
        self._locator.append(window)
        self._recent[1:] = self._recent[:-1].copy()
        self._recent[0] = self._heard(window)
        smoothed = self._recent.mean(axis=0)
        reached = np.count_nonzero(self._recent >= self._on, axis=0)
        begins = (smoothed >= self._on) & (reached >= min(_LEAST_WINDOWS, len(self._recent)))
        begins[list(self._sounds)] = True

        events: list[Event] = []
        for label in map(int, np.flatnonzero(begins)):
            if label in self._sounds:
                self._sounds[label].quiet_windows += 1
            else:
                self._sounds[label] = self._begin(label)
            sound = self._sounds[label]
            if self._recent[0, label] >= self._off[label]:
                sound.quiet_windows = 0
            end_seconds = self._locator.offset(sound.quiet_windows)
            if smoothed[label] < self._off[label]:
                events += self._finish(label, end_seconds, "quiet")
                continue
            sound.take(float(smoothed[label]), window.level_dbfs)
            events += self._report(label, end_seconds)
            if end_seconds - sound.start_seconds >= self.policy.max_seconds:
                events += self._finish(label, end_seconds, "longest")
        return events

    def end(self, seconds: float, reason: EndReason, now: float | None = None) -> list[Event]:
        """End all open events, because the stream does.

        Args:
            seconds: where it ends: a sound that the last window still heard lasts until then.
            reason: `"gap"` if it goes on later, at a later time; `"stopped"` if the next window is
                that of another stream.
            now: Unix time of `seconds`; the clock of the last window where None.

        Returns:
            The events that end, in the order of labels; one whose start was held back until its
            duration was known comes twice.
        """
        if now is not None:
            self._set_time(seconds, now)
        events: list[Event] = []
        for label, sound in sorted(self._sounds.items()):
            heard_to_the_end = sound.quiet_windows == 0
            offset = seconds if heard_to_the_end else self._locator.offset(sound.quiet_windows)
            events += self._finish(label, offset, reason)
        self._recent[:] = 0.0
        self._locator.clear()
        self._seconds = -np.inf
        if reason == "stopped":
            self._ready_seconds[:] = -np.inf
        return events

    def _set_time(self, seconds: float, now: float | None) -> None:
        self._seconds = seconds
        self._unix_offset = None if now is None else now - seconds

    def _heard(self, window: Classification) -> _Floats:
        """What each label may count for in this window, (labels,)."""
        heard = np.zeros(len(self.labels))
        if window.gated:
            return heard
        scores = heard[: len(self._model_labels)]
        scores[:] = window.scores
        if self.policy.cosine_floor is not None:
            scores[window.cosines < self.policy.cosine_floor] = 0.0
        if self.policy.report_unknown:
            heard[-1] = is_unknown(window, self.policy.cosine_floor)
        return heard

    def _begin(self, label: int) -> "_Sound":
        recent = self._recent[:, label]
        first = int(np.flatnonzero(recent >= self._on[label])[-1])
        onset, ready = self._locator.onset(first), self._ready_seconds[label]
        # What sounded before it may be reported could be over by then; what did not is not.
        start, least = (onset, 0.5 * self._hop_seconds) if onset >= ready else (float(ready), 0.0)
        return _Sound(
            start_seconds=start,
            least_end_seconds=start + least,
            level_dbfs=self._locator.loudest(first),
            quiet_windows=int(np.flatnonzero(recent >= self._off[label])[0]),
        )

    def _report(self, label: int, end_seconds: float) -> list[Event]:
        """Start the sound's event if it may, or bring it up to date."""
        sound = self._sounds[label]
        if sound.event:
            sound.event = replace(
                sound.event,
                peak_score=sound.peak_score,
                mean_score=sound.mean_score,
                level_dbfs=sound.level_dbfs,
            )
            return []
        duration = self._clip(sound, end_seconds) - sound.start_seconds
        if duration <= 0 or duration < self.policy.min_seconds:
            return []
        # What has been said cannot be taken back, whatever the end turns out to be.
        sound.least_end_seconds = sound.start_seconds + max(
            self.policy.min_seconds, min(duration, 0.5 * self._hop_seconds)
        )
        started_at = None
        if self._unix_offset is not None:
            started_at = sound.start_seconds + self._unix_offset
        sound.event = Event(
            id=event_id(self._num_events, sound.start_seconds, started_at),
            label=self.labels[label],
            start_seconds=sound.start_seconds,
            end_seconds=None,
            peak_score=sound.peak_score,
            mean_score=sound.mean_score,
            level_dbfs=sound.level_dbfs,
            started_at=started_at,
        )
        self._num_events += 1
        return [sound.event]

    def _finish(self, label: int, end_seconds: float, reason: EndReason) -> list[Event]:
        """Forget the sound, and end its event if it has one."""
        started = self._report(label, end_seconds)
        sound = self._sounds.pop(label)
        event = sound.event
        if event is None:
            return []
        end_seconds = self._clip(sound, end_seconds)
        duration = end_seconds - event.start_seconds
        self._ready_seconds[label] = end_seconds + self.policy.refractory_seconds
        ended = replace(
            event,
            end_seconds=end_seconds,
            ended_at=None if event.started_at is None else event.started_at + duration,
            end_reason=reason,
        )
        return [*started, ended]

    def _clip(self, sound: "_Sound", end_seconds: float) -> float:
        """The sound's end, no earlier than was said and no later than it may be."""
        latest = sound.start_seconds + self.policy.max_seconds
        return min(max(end_seconds, sound.least_end_seconds), latest)


@dataclass
class _Sound:
    """A label that is being heard; it may not be worth an event yet."""

    start_seconds: float
    least_end_seconds: float
    level_dbfs: float
    quiet_windows: int
    event: Event | None = None
    peak_score: float = 0.0
    score_sum: float = 0.0
    num_windows: int = 0

    def take(self, smoothed: float, level_dbfs: float) -> None:
        self.level_dbfs = max(self.level_dbfs, level_dbfs)
        self.peak_score = max(self.peak_score, smoothed)
        self.score_sum += smoothed
        self.num_windows += 1

    @property
    def mean_score(self) -> float:
        return self.score_sum / self.num_windows
