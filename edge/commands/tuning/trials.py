"""What the listener would say, at each threshold, of a background and of known sounds."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.commands.tuning.positives import Positive
from edge.commands.tuning.sweep import THRESHOLDS, EventsByThreshold, Sweep
from edge.events.detector import Policy
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sources import file_source
from edge.types import FloatArray, IntArray

_LOGGER = logging.getLogger("semanticac_edge")


@dataclass(frozen=True, eq=False)
class Background:
    """What was heard where nothing should be.

    Args:
        counts: events, int64 (thresholds, labels).
        hours: length of all recordings.
        gated_windows: windows that were too quiet to classify.
        cosines: of the best label in the other windows, counted in steps of 0.01 from -1 to 1,
            int64 (201,).
    """

    counts: IntArray
    hours: float
    gated_windows: int
    cosines: IntArray

    @property
    def windows(self) -> int:
        """All windows."""
        return self.gated_windows + int(self.cosines.sum())

    def share_reaching(self, cosine: float) -> float:
        """Share of the classified windows whose best label has this cosine or a higher one."""
        reached = int(self.cosines[_step_of(cosine) :].sum())
        return reached / max(1, int(self.cosines.sum()))


@dataclass(frozen=True, eq=False)
class Recall:
    """What was heard of known sounds.

    Args:
        heard: whether a label had an event while the sound lasted, (thresholds, sounds, labels).
        truth: each sound's label, as an index, (sounds,).
        cosines: of the best label in each window that was classified and has its middle in a sound,
            (windows,).
    """

    heard: npt.NDArray[np.bool_]
    truth: IntArray
    cosines: npt.NDArray[np.float64]

    def at(self, steps: IntArray) -> tuple[npt.NDArray[np.bool_], ...]:
        """Look up what happens at one threshold a label.

        Args:
            steps: index of each label's threshold, (labels,).

        Returns:
            Which sounds have an event of their label, and which have one of another, (sounds,).
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
        policy: what counts as an event, but for its thresholds.
        paths: the recordings; they are streamed, however long.

    Raises:
        SourceError: if a recording cannot be read.
        ValueError: if there is no sound in them.
    """
    counts = np.zeros((len(THRESHOLDS), len(classifier.labels)), np.int64)
    cosines = np.zeros(_step_of(1.0) + 1, np.int64)
    hours, gated_windows = 0.0, 0
    for path in paths:
        sweep = Sweep(classifier, policy)
        for events in _whole(sweep, file_source(path, classifier.front_end.sample_rate_hz)):
            counts += _counts(events, sweep.labels)
            for window in sweep.latest:
                gated_windows += window.gated
                if not window.gated:
                    cosines[_step_of(float(window.cosines.max()))] += 1
        hours += sweep.seconds / 3600
        _LOGGER.info("Heard %s, %.2f h.", path, sweep.seconds / 3600)
    if hours == 0:
        raise ValueError("the background must hold sound. Received: empty recordings.")
    return Background(counts, hours, gated_windows, cosines)


def hear_positives(
    classifier: StreamingClassifier,
    policy: Policy,
    positives: Sequence[Positive],
    background: Path,
) -> Recall:
    """Find out which labels have an event where a known sound is.

    Each recording is heard between two stretches of background as long as a window: sounds come
    into windows and leave them little by little, and no listener hears one alone.

    Args:
        classifier: at the start of a stream.
        policy: what counts as an event, but for its thresholds.
        positives: the recordings.
        background: its beginning is put around each.

    Raises:
        SourceError: if a recording cannot be read.
        ValueError: if there is no sound in the background.
    """
    labels, front_end = classifier.labels, classifier.front_end
    rate_hz, window_samples = front_end.sample_rate_hz, front_end.window_samples
    around = _beginning(background, rate_hz, 2 * window_samples)
    heard = np.zeros((len(THRESHOLDS), len(positives), len(labels)), bool)
    cosines: list[float] = []
    for index, positive in enumerate(positives):
        sound = np.concatenate(list(file_source(positive.path, rate_hz)))
        begins = front_end.window_seconds
        ends = begins + len(sound) / rate_hz
        parts = [around[:window_samples], sound, around[window_samples:]]
        sweep = Sweep(classifier, policy)
        for events in _whole(sweep, parts):
            heard[:, index] |= _heard(events, labels, begins, ends, classifier.hop_seconds)
            cosines += [
                float(window.cosines.max())
                for window in sweep.latest
                if not window.gated and begins <= _middle(window) <= ends
            ]
    truth = [labels.index(positive.label) for positive in positives]
    return Recall(heard, np.array(truth, np.int64), np.array(cosines))


def _whole(sweep: Sweep, chunks: Iterable[FloatArray]) -> Iterator[EventsByThreshold]:
    """What comes of a stream, to its end."""
    for chunk in chunks:
        yield sweep.push(chunk)
    yield sweep.end()


def _heard(
    events: EventsByThreshold, labels: Sequence[str], begins: float, ends: float, hop_seconds: float
) -> npt.NDArray[np.bool_]:
    """Which labels have an event in a time, or within a hop of it, (thresholds, labels)."""
    heard = np.zeros((len(events), len(labels)), bool)
    for at_one, row in zip(events, heard, strict=True):
        for event in at_one:
            offset = ends if event.end_seconds is None else event.end_seconds
            if event.start_seconds < ends + hop_seconds and offset > begins - hop_seconds:
                row[labels.index(event.label)] = True
    return heard


def _middle(window: Classification) -> float:
    return (window.start_seconds + window.end_seconds) / 2


def _step_of(cosine: float) -> int:
    """Its place among steps of 0.01 from -1 to 1; float32 may be a little beyond."""
    return min(max(math.floor(100 * cosine + 1e-6) + 100, 0), 200)


def _counts(events: EventsByThreshold, labels: Sequence[str]) -> IntArray:
    """How many of them each label has, (thresholds, labels)."""
    names = [[event.label for event in at_one] for at_one in events]
    return np.array([[row.count(label) for label in labels] for row in names], np.int64)


def _beginning(path: Path, rate_hz: int, samples: int) -> FloatArray:
    """The first samples of a recording; a shorter one is repeated."""
    chunks: list[FloatArray] = []
    for chunk in file_source(path, rate_hz):
        chunks.append(chunk)
        if sum(map(len, chunks)) >= samples:
            break
    sound = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    if not len(sound):
        raise ValueError(f"the background must hold sound. Received: {path}, which is empty.")
    return np.resize(sound, samples)
