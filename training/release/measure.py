"""What a bundle does as a listener: with sounds it does not know, and with those it should."""

import math
import platform
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edge import StreamingClassifier
from edge.commands.tuning.choice import highest_rate, lowest_thresholds
from edge.commands.tuning.positives import Positive
from edge.commands.tuning.report import events_at
from edge.commands.tuning.sweep import THRESHOLDS
from edge.commands.tuning.trials import Background, Recall, hear_background, hear_positives
from edge.events.policy import Policy
from edge.inference.interpreter import Interpreter
from edge.types import FloatArray, IntArray
from training.datasets import AudioDataset, Clip
from training.runs.evaluation import Evaluation

GATE_DBFS = -70.0
_TIMED_WINDOWS = 50
# Below the gate: what is around a sound is not classified.
_QUIET_DBFS = -80.0


class Listener:
    """A bundle with the decisions that it is shipped with.

    Args:
        bundle: the model.
        policy: what counts as an event, but for the thresholds.
        hop_seconds: time between windows.

    Attributes:
        labels: of the model.
    """

    def __init__(self, bundle: Path, policy: Policy, hop_seconds: float) -> None:
        self.policy = policy
        self.classifier = StreamingClassifier(bundle, hop_seconds, gate_dbfs=GATE_DBFS)
        self.labels = self.classifier.labels

    def background(self, recording: Path) -> Background:
        """Count the events that a recording without any known sound gives."""
        return hear_background(self.classifier, self.policy, [recording])

    def recall(self, clips: Sequence[Clip], labels: Sequence[str]) -> Recall:
        """Find out which known sounds are heard, each alone in a quiet room.

        Args:
            clips: files with their label.
            labels: what the clips' labels index.
        """
        positives = [Positive(clip.path, labels[clip.label]) for clip in clips if clip.path]
        rate_hz = self.classifier.front_end.sample_rate_hz
        noise = np.random.default_rng(0).normal(scale=10 ** (_QUIET_DBFS / 20), size=rate_hz)
        with tempfile.TemporaryDirectory() as directory:
            quiet = Path(directory) / "quiet.wav"
            soundfile.write(quiet, noise, rate_hz, subtype="FLOAT")
            return hear_positives(self.classifier, self.policy, positives, quiet)


def choose(background: Background, labels: Sequence[str], per_hour: float) -> dict[str, float]:
    """Thresholds that leave few enough events.

    Each label's is halfway, among those that are tried, between the lowest one of its own and the
    lowest one for all labels together. Its own alone comes down far where no sound of these
    resembles the label, and others will; one for all does not see which label is often mistaken.

    Args:
        background: heard of the half that chooses.
        labels: of the model.
        per_hour: events an hour of all labels together.

    Raises:
        ValueError: if no threshold does.
    """
    allowed = math.floor(per_hour * background.hours)
    own = lowest_thresholds(background.counts, allowed)
    if own is None:
        raise ValueError(
            f"even at {THRESHOLDS[-1]:g} other sounds must give at most {per_hour:g} events an "
            f"hour. Received: {background.counts[-1].sum() / background.hours:.3g}. Train anew."
        )
    most = np.maximum.accumulate(background.counts.sum(axis=1)[::-1])[::-1]
    common = int(np.flatnonzero(most <= allowed)[0])
    steps = -((-own - common) // 2)  # rounded up
    return {label: THRESHOLDS[step] for label, step in zip(labels, steps.tolist(), strict=True)}


def false_accepts(
    background: Background, sounds: int, thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Figures of the events that other sounds give.

    Args:
        background: heard of them.
        sounds: how many there are.
        thresholds: by label, in the model's order.

    Returns:
        Events by label and in total, an hour and for each sound, with the 95 % confidence
        interval of a Poisson process.
    """
    counts = events_at(background, _steps(thresholds))
    events, hours = int(counts.sum()), background.hours
    return {
        "hours": hours,
        "sounds": sounds,
        "events": events,
        "events_by_label": dict(zip(thresholds, counts.tolist(), strict=True)),
        "per_hour": events / hours,
        "per_hour_interval": list(rate_interval(events, hours)),
        "per_sound": events / sounds,
    }


def rate_interval(events: int, hours: float, confidence: float = 0.95) -> tuple[float, float]:
    """The rates for which so few, and for which so many events would be rare.

    Source: Garwood 1936, the exact interval for the mean of a Poisson distribution.
    """
    tail = (1 - confidence) / 2
    low = highest_rate(events - 1, hours, tail) if events else 0.0
    return low, highest_rate(events, hours, 1 - tail)


def heard(recalls: Iterable[Recall], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Figures of known sounds, each counted by a model that was not trained on it.

    Args:
        recalls: of several models.
        thresholds: by label, in the models' order.

    Returns:
        How many models, and sounds that gave an event of their label, by label and in total, and
        of another label.
    """
    labels = list(thresholds)
    found, sounds = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0)
    models = wrong = 0
    for recall in recalls:
        models += 1
        is_found, is_wrong = recall.at(_steps(thresholds))
        wrong += int(is_wrong.sum())
        for truth, was_found in zip(recall.truth.tolist(), is_found.tolist(), strict=True):
            sounds[labels[truth]] += 1
            found[labels[truth]] += was_found
    return {
        "models": models,
        "sounds": sum(sounds.values()),
        "found": sum(found.values()),
        "wrong": wrong,
        "sounds_by_label": sounds,
        "found_by_label": found,
    }


def reached(evaluation: Evaluation, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Figures of known sounds in one window each, where models that could listen are not there.

    Args:
        evaluation: scores of clips that the models were not trained on.
        thresholds: by label, in the models' order.

    Returns:
        Clips whose label's score reaches its threshold, and clips where another one's does.
    """
    above = evaluation.probabilities >= np.array(list(thresholds.values()))
    is_truth = np.arange(len(thresholds)) == evaluation.truth[:, np.newaxis]
    return {
        "sounds": len(above),
        "found": int((above & is_truth).any(axis=1).sum()),
        "wrong": int((above & ~is_truth).any(axis=1).sum()),
    }


def scores_of(bundle: Path, dataset: AudioDataset, rate_hz: int) -> FloatArray:
    """What a bundle says of the beginning of each clip, (clips, labels)."""
    classifier = StreamingClassifier(bundle)
    length = classifier.front_end.window_samples

    def scores(clip: Clip) -> FloatArray:
        sound = dataset.read(clip, rate_hz)[:length]
        return (classifier.push(sound) + classifier.flush())[0].scores

    return np.stack([scores(clip) for clip in dataset.clips])


def speed(bundle: Path) -> dict[str, Any]:
    """CPU time of one window in the network, the median of several, on one thread of what."""
    interpreter = Interpreter(bundle)
    shape = interpreter.contract.input_shape[1:]
    inputs = np.random.default_rng(0).normal(-40, 10, shape).astype(np.float32)
    seconds = []
    for _ in range(_TIMED_WINDOWS):
        started = time.process_time()
        interpreter.run(inputs)
        seconds.append(time.process_time() - started)
    return {"milliseconds": 1000 * float(np.median(seconds)), "processor": _processor()}


def _processor() -> str:
    """Its name, as far as the system knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def _steps(thresholds: Mapping[str, float]) -> IntArray:
    """Their places among all that are tried."""
    return np.array([THRESHOLDS.index(threshold) for threshold in thresholds.values()])
