"""The event detector: decides from window scores which events are reported."""

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
# For so long must windows reach the threshold, whatever the smoothed score is: two windows that
# start a second apart.
_CLEAR_SECONDS = 2.0


class Detector:
    """Turns the classifications of a stream, in order, into events.

    The events depend on the windows only, never on the clock. Every event is returned twice, with
    the same id: when it starts and when it ends. `end` closes the open events with the stream.

    Args:
        policy: what counts as an event.
        labels: the classes, in the order of the scores.
        hop_seconds: time between the starts of two windows. Event times are accurate to one hop at
            best, and no event is shorter than half a hop.

    Raises:
        ValueError: if `policy.thresholds` names a label that is not in `labels`, or `labels`
            contains "unknown" and the policy reports unknown sounds.
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
        unexpected = sorted(set(policy.thresholds) - set(self.labels))
        if unexpected:
            raise ValueError(
                f"`thresholds` must name labels of the model ({', '.join(self.labels)}). "
                f"Received: {', '.join(unexpected)}."
            )
        self._hop_seconds = hop_seconds
        thresholds = [policy.thresholds.get(label, policy.threshold) for label in self.labels]
        self._on = np.array(thresholds)
        self._off = policy.release * self._on
        # Scores of the last windows, newest first, shape (windows, labels).
        self._recent = np.zeros((policy.smoothing_windows, len(self.labels)))
        self._clear_windows = min(
            max(1, round(_CLEAR_SECONDS / hop_seconds)), policy.smoothing_windows
        )
        self._locator = Locator(lookback=policy.smoothing_windows)
        self._sounds: dict[int, _Sound] = {}
        self._ready_seconds = np.full(len(self.labels), -np.inf)
        self._seconds = -np.inf
        self._unix_offset: float | None = None
        self._num_events = 0

    @property
    def open(self) -> tuple[Event, ...]:
        """The events that have started and not ended, with their current scores, by label order."""
        return tuple(sound.event for _, sound in sorted(self._sounds.items()) if sound.event)

    def update(self, window: Classification, now: float | None = None) -> list[Event]:
        """Process the next window.

        Args:
            window: classification with the labels passed to the constructor.
            now: Unix time of the window's end; None for a recording.

        Returns:
            The events that start or end, in the order of labels.

        Raises:
            ValueError: if the window ends before the last one, or has different labels.
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
        self._recent[0] = self._effective_scores(window)
        smoothed = self._recent.mean(axis=0)
        reached = np.count_nonzero(self._recent >= self._on, axis=0)
        begins = (smoothed >= self._on) & (reached >= self._clear_windows)
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
        """End all open events with the stream.

        Args:
            seconds: end of the stream; a sound still present in the last window lasts until then.
            reason: `"gap"` if the stream resumes later; `"stopped"` if the next window belongs to
                another stream.
            now: Unix time of `seconds`; None uses the clock offset of the last window.

        Returns:
            The events that end, in the order of labels. An event whose start was held back until
            its duration was known appears twice.
        """
        if now is not None:
            self._set_time(seconds, now)
        events: list[Event] = []
        for label, sound in sorted(self._sounds.items()):
            lasts_to_end = sound.quiet_windows == 0
            offset = seconds if lasts_to_end else self._locator.offset(sound.quiet_windows)
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

    def _effective_scores(self, window: Classification) -> _Floats:
        """The window's scores after the gate and the cosine floor, shape (labels,)."""
        effective = np.zeros(len(self.labels))
        if window.gated:
            return effective
        scores = effective[: len(self._model_labels)]
        scores[:] = window.scores
        if self.policy.cosine_floor is not None:
            scores[window.cosines < self.policy.cosine_floor] = 0.0
        if self.policy.report_unknown:
            effective[-1] = is_unknown(window, self.policy.cosine_floor)
        return effective

    def _begin(self, label: int) -> "_Sound":
        recent = self._recent[:, label]
        first = int(np.flatnonzero(recent >= self._on[label])[-1])
        onset, ready = self._locator.onset(first), self._ready_seconds[label]
        # A sound with its onset in the refractory time may have ended within it: no least duration.
        start, least = (onset, 0.5 * self._hop_seconds) if onset >= ready else (float(ready), 0.0)
        return _Sound(
            start_seconds=start,
            least_end_seconds=start + least,
            level_dbfs=self._locator.loudest(first),
            quiet_windows=int(np.flatnonzero(recent >= self._off[label])[0]),
        )

    def _report(self, label: int, end_seconds: float) -> list[Event]:
        """Start the sound's event once its duration allows it, or update the event."""
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
        # A reported event cannot be withdrawn: whatever its end, it keeps a valid duration.
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
        """Remove the sound, and end its event if it has one."""
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
        """Limit the sound's end to the least end already reported and the longest duration."""
        latest = sound.start_seconds + self.policy.max_seconds
        return min(max(end_seconds, sound.least_end_seconds), latest)


@dataclass
class _Sound:
    """A sound in progress; it becomes an event once it lasts long enough."""

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
