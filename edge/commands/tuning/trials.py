"""Events at each threshold on a background and on known sounds."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.commands.tuning.positives import Positive
from edge.commands.tuning.sweep import EventsByThreshold, Sweep, thresholds_for
from edge.events.detector import Policy
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sources import file_source
from edge.sources.conditioning import HIGH_PASS_HZ, HighPass
from edge.types import FloatArray, IntArray

_LOGGER = logging.getLogger("semanticac_edge")


@dataclass(frozen=True, eq=False)
class Background:
    """Events in recordings in which no label sounds.

    Args:
        counts: int64 (thresholds, labels), number of events.
        hours: total length of the recordings.
        gated_windows: windows too quiet to classify.
        cosines: int64 (201,), histogram of the best label's cosine over the classified windows, in
            steps of 0.01 from -1 to 1.
        exclusive: whether the model's scores exclude each other; see `BundleContract`.
    """

    counts: IntArray
    hours: float
    gated_windows: int
    cosines: IntArray
    exclusive: bool

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds, ascending."""
        return thresholds_for(self.exclusive)

    @property
    def windows(self) -> int:
        """Number of windows, gated ones included."""
        return self.gated_windows + int(self.cosines.sum())

    def share_reaching(self, cosine: float) -> float:
        """Return the share of classified windows whose best label reaches this cosine."""
        reached = int(self.cosines[_step_of(cosine) :].sum())
        return reached / max(1, int(self.cosines.sum()))


@dataclass(frozen=True, eq=False)
class Recall:
    """Events during known sounds.

    Args:
        heard: bool (thresholds, sounds, labels), whether a label had an event during the sound.
        truth: int64 (sounds,), index of each sound's label.
        cosines: float64 (windows,), the best label's cosine in each classified window whose middle
            lies in a sound.
        exclusive: whether the model's scores exclude each other; see `BundleContract`.
    """

    heard: npt.NDArray[np.bool_]
    truth: IntArray
    cosines: npt.NDArray[np.float64]
    exclusive: bool

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds, ascending."""
        return thresholds_for(self.exclusive)

    def at(self, steps: IntArray) -> tuple[npt.NDArray[np.bool_], ...]:
        """Return the sounds found, and those with a wrong label, at one threshold per label.

        Args:
            steps: int (labels,), index of each label's threshold.

        Returns:
            Two arrays, bool (sounds,): whether the sound has an event of its label, and whether it
            has one of another label, which need not be wrong where labels are independent.
        """
        heard = self.heard[steps, :, np.arange(len(steps))].T  # (sounds, labels)
        is_truth = self.truth[:, np.newaxis] == np.arange(len(steps))
        return (heard & is_truth).any(axis=1), (heard & ~is_truth).any(axis=1)


def hear_background(
    classifier: StreamingClassifier, policy: Policy, paths: Sequence[Path]
) -> Background:
    """Count events in recordings, each a stream of its own.

    Args:
        classifier: at the start of a stream.
        policy: decision rules; its thresholds are ignored.
        paths: recordings of any length.

    Raises:
        SourceError: if a recording cannot be read.
        ValueError: if all recordings are empty.
    """
    exclusive = classifier.contract.exclusive
    counts = np.zeros((len(thresholds_for(exclusive)), len(classifier.labels)), np.int64)
    cosines = np.zeros(_step_of(1.0) + 1, np.int64)
    hours, gated_windows = 0.0, 0
    for path in paths:
        sweep = Sweep(classifier, policy)
        for events in _stream_events(sweep, _source(path, classifier.front_end.sample_rate_hz)):
            counts += _counts(events, sweep.labels)
            for window in sweep.latest:
                gated_windows += window.gated
                if not window.gated:
                    cosines[_step_of(float(window.cosines.max()))] += 1
        hours += sweep.seconds / 3600
        _LOGGER.info("Processed %s, %.2f h.", path, sweep.seconds / 3600)
    if hours == 0:
        raise ValueError("the background must contain sound. Received: empty recordings.")
    return Background(counts, hours, gated_windows, cosines, exclusive)


def hear_positives(
    classifier: StreamingClassifier,
    policy: Policy,
    positives: Sequence[Positive],
    background: Path,
) -> Recall:
    """Find which labels have an event during each known sound.

    Each recording is placed between two stretches of background, each as long as a window, because
    a real sound enters and leaves the windows gradually and is never alone.

    Args:
        classifier: at the start of a stream.
        policy: decision rules; its thresholds are ignored.
        positives: the recordings of known sounds.
        background: recording whose beginning surrounds each sound.

    Raises:
        SourceError: if a recording cannot be read.
        ValueError: if the background is empty.
    """
    labels, front_end = classifier.labels, classifier.front_end
    rate_hz, window_samples = front_end.sample_rate_hz, front_end.window_samples
    around = _beginning(background, rate_hz, 2 * window_samples)
    exclusive = classifier.contract.exclusive
    heard = np.zeros((len(thresholds_for(exclusive)), len(positives), len(labels)), bool)
    cosines: list[float] = []
    for index, positive in enumerate(positives):
        sound = np.concatenate(list(_source(positive.path, rate_hz)))
        begins = front_end.window_seconds
        ends = begins + len(sound) / rate_hz
        parts = [around[:window_samples], sound, around[window_samples:]]
        sweep = Sweep(classifier, policy)
        for events in _stream_events(sweep, parts):
            heard[:, index] |= _heard(events, labels, begins, ends, classifier.hop_seconds)
            cosines += [
                float(window.cosines.max())
                for window in sweep.latest
                if not window.gated and begins <= _middle(window) <= ends
            ]
    truth = [labels.index(positive.label) for positive in positives]
    return Recall(heard, np.array(truth, np.int64), np.array(cosines), exclusive)


def _stream_events(sweep: Sweep, chunks: Iterable[FloatArray]) -> Iterator[EventsByThreshold]:
    """Yield the events of a complete stream, chunk by chunk."""
    for chunk in chunks:
        yield sweep.push(chunk)
    yield sweep.end()


def _heard(
    events: EventsByThreshold, labels: Sequence[str], begins: float, ends: float, hop_seconds: float
) -> npt.NDArray[np.bool_]:
    """Return bool (thresholds, labels): which have an event in a span, give or take a hop."""
    heard = np.zeros((len(events), len(labels)), bool)
    for at_threshold, row in zip(events, heard, strict=True):
        for event in at_threshold:
            offset = ends if event.end_seconds is None else event.end_seconds
            if event.start_seconds < ends + hop_seconds and offset > begins - hop_seconds:
                row[labels.index(event.label)] = True
    return heard


def _middle(window: Classification) -> float:
    return (window.start_seconds + window.end_seconds) / 2


def _step_of(cosine: float) -> int:
    """Return the bin of a cosine; float32 rounding may put it slightly outside [-1, 1]."""
    return min(max(math.floor(100 * cosine + 1e-6) + 100, 0), 200)


def _counts(events: EventsByThreshold, labels: Sequence[str]) -> IntArray:
    """Return int64 (thresholds, labels), the number of events."""
    names = [[event.label for event in at_threshold] for at_threshold in events]
    return np.array([[row.count(label) for label in labels] for row in names], np.int64)


def _source(path: Path, rate_hz: int) -> Iterator[FloatArray]:
    """Yield the chunks of a recording as a listener hears them by default."""
    high_pass = HighPass(HIGH_PASS_HZ, rate_hz)
    return map(high_pass.push, file_source(path, rate_hz))


def _beginning(path: Path, rate_hz: int, samples: int) -> FloatArray:
    """Return the first samples of a recording, which is repeated if it is shorter."""
    chunks: list[FloatArray] = []
    for chunk in _source(path, rate_hz):
        chunks.append(chunk)
        if sum(map(len, chunks)) >= samples:
            break
    sound = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    if not len(sound):
        raise ValueError(f"the background must contain sound. Received: {path}, which is empty.")
    return np.resize(sound, samples)
