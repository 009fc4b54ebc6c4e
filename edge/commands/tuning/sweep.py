"""The detector at many thresholds, on windows that are classified only once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edge.events.detector import Detector, Policy
from edge.events.event import Event
from edge.inference.streaming import Classification, StreamingClassifier
from edge.types import FloatArray

# Denser towards 1, where a softmax puts any sound that resembles a class. Below 0.3 a sound of one
# label would also pass as its runner-up, which a background without such sounds cannot show.
THRESHOLDS = (
    *(round(0.30 + 0.02 * step, 2) for step in range(31)),
    *(0.92, 0.94, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998, 0.999),
)
# An independent score takes nothing from the others, so that a faint sound may be clear at a low
# one. Up to 0.1, label smoothing may have taught other sounds to score.
INDEPENDENT_THRESHOLDS = (*(round(0.10 + 0.02 * step, 2) for step in range(10)), *THRESHOLDS)

# The ended events at each threshold.
EventsByThreshold = list[list[Event]]


def thresholds_for(exclusive: bool) -> tuple[float, ...]:
    """Return the thresholds to try, ascending, for exclusive or independent scores."""
    return THRESHOLDS if exclusive else INDEPENDENT_THRESHOLDS


class Sweep:
    """One stream, classified once and passed to a detector at each threshold for the model.

    Only the detectors keep state, so the stream may have any length.

    Args:
        classifier: at the start of a stream, and again after `end`.
        policy: decision rules; its thresholds are ignored.

    Attributes:
        labels: the classifier's labels.
        seconds: length of the sound so far.
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
            for threshold in thresholds_for(classifier.contract.exclusive)
        ]

    def push(self, chunk: FloatArray) -> EventsByThreshold:
        """Process the next chunk, float32 (samples,) at the classifier's sample rate.

        Raises:
            ValueError: if the classifier refuses the chunk.
        """
        self.latest = self._classifier.push(chunk)
        self.seconds += len(chunk) / self._classifier.front_end.sample_rate_hz
        return self._decide()

    def end(self) -> EventsByThreshold:
        """End the stream and all open events."""
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
