"""The detector at many thresholds at once, on windows that are classified once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edge.events.detector import Detector, Policy
from edge.events.event import Event
from edge.inference.streaming import Classification, StreamingClassifier
from edge.types import FloatArray

# Denser towards 1, where a softmax puts whatever resembles a class. Below 0.3 a sound that is one
# label's passes for its runner-up too, which no background without such sounds would show.
THRESHOLDS = (
    *(round(0.30 + 0.02 * step, 2) for step in range(31)),
    *(0.92, 0.94, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998, 0.999),
)

# The events that end, for each of the thresholds.
EventsByThreshold = list[list[Event]]


class Sweep:
    """One stream, its windows classified once and decided upon at each of `THRESHOLDS`.

    Nothing is kept but the detectors, so that the stream may be of any length.

    Args:
        classifier: at the start of a stream; it is again when `end` returns.
        policy: what counts as an event, but for its thresholds.

    Attributes:
        labels: the classifier's.
        seconds: sound so far.
        latest: the windows of the last `push` or `end`.
    """

    def __init__(self, classifier: StreamingClassifier, policy: Policy) -> None:
        self.labels: Sequence[str] = classifier.labels
        self.seconds = 0.0
        self.latest: list[Classification] = []
        self._classifier = classifier
        self._detectors = [
            Detector(
                replace(policy, threshold=threshold, thresholds={}, report_unknown=False),
                classifier.labels,
                classifier.hop_seconds,
            )
            for threshold in THRESHOLDS
        ]

    def push(self, chunk: FloatArray) -> EventsByThreshold:
        """Take the next samples, (samples,) at the classifier's rate.

        Raises:
            ValueError: if the classifier refuses them.
        """
        self.latest = self._classifier.push(chunk)
        self.seconds += len(chunk) / self._classifier.front_end.sample_rate_hz
        return self._decide()

    def end(self) -> EventsByThreshold:
        """End the stream, and all events."""
        self.latest = self._classifier.flush()
        last = self._decide()
        return [
            [*events, *_ended(detector.end(self.seconds, "stopped"))]
            for events, detector in zip(last, self._detectors, strict=True)
        ]

    def _decide(self) -> EventsByThreshold:
        return [
            [event for window in self.latest for event in _ended(detector.update(window))]
            for detector in self._detectors
        ]


def _ended(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.state == "ended"]
