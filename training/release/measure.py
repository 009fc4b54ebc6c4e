"""Behaviour of a bundle as a listener: false accepts, recall and speed."""

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
from edge.commands.tuning.trials import Background, Recall, hear_background, hear_positives
from edge.events.policy import Policy
from edge.inference.interpreter import Interpreter
from edge.types import FloatArray, IntArray
from training.datasets import AudioDataset, Clip
from training.runs.evaluation import Evaluation

GATE_DBFS = -70.0
_TIMED_WINDOWS = 50
# Below the gate, so that the surroundings of a sound are not classified.
_QUIET_DBFS = -80.0


class Listener:
    """Bundle with the decision settings of its package.

    Args:
        bundle: path of the model.
        policy: decision settings, except the thresholds.
        hop_seconds: time between windows.

    Attributes:
        labels: of the model.
    """

    def __init__(self, bundle: Path, policy: Policy, hop_seconds: float) -> None:
        self.policy = policy
        self.classifier = StreamingClassifier(bundle, hop_seconds, gate_dbfs=GATE_DBFS)
        self.labels = self.classifier.labels

    def background(self, recording: Path) -> Background:
        """Count the events in a recording without any known sound, by threshold."""
        return hear_background(self.classifier, self.policy, [recording])

    def recall(self, clips: Sequence[Clip], labels: Sequence[str]) -> Recall:
        """Determine which known sounds are reported, each alone in a quiet room.

        Args:
            clips: files with their label index.
            labels: label texts.
        """
        positives = [
            Positive(clip.path, labels[label])
            for clip in clips
            for label in clip.labels
            if clip.path
        ]
        rate_hz = self.classifier.front_end.sample_rate_hz
        noise = np.random.default_rng(0).normal(scale=10 ** (_QUIET_DBFS / 20), size=rate_hz)
        with tempfile.TemporaryDirectory() as directory:
            quiet = Path(directory) / "quiet.wav"
            soundfile.write(quiet, noise, rate_hz, subtype="FLOAT")
            return hear_positives(self.classifier, self.policy, positives, quiet)


def choose(background: Background, labels: Sequence[str], per_hour: float) -> dict[str, float]:
    """Choose the lowest thresholds with an acceptable rate of events.

    The threshold of a label is halfway between its individual optimum and the common optimum of
    all labels. The individual optimum is too low for labels that no sound here resembles, since
    other sounds will; the common one ignores which labels are often confused.

    Args:
        background: events in the half of the other sounds used for choosing.
        labels: of the model.
        per_hour: maximum events per hour over all labels.

    Raises:
        ValueError: if no threshold is high enough.
    """
    allowed = math.floor(per_hour * background.hours)
    own = lowest_thresholds(background.counts, allowed)
    if own is None:
        raise ValueError(
            f"at most {per_hour:g} events per hour expected for other sounds at the threshold "
            f"{background.thresholds[-1]:g}. Received: "
            f"{background.counts[-1].sum() / background.hours:.3g}. Train the model again."
        )
    most = np.maximum.accumulate(background.counts.sum(axis=1)[::-1])[::-1]
    common = int(np.flatnonzero(most <= allowed)[0])
    steps = -((-own - common) // 2)  # rounded up
    chosen = (background.thresholds[step] for step in steps)
    return dict(zip(labels, chosen, strict=True))


def false_accepts(
    background: Background, sounds: int, thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Return the figures of false accepts of other sounds.

    Args:
        background: events in their recording.
        sounds: number of sounds.
        thresholds: by label, in the model's order.

    Returns:
        Events by label, in total, per hour and per sound, with the 95 % confidence interval of a
        Poisson process.
    """
    counts = events_at(background, _steps(thresholds, background))
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
    """Return the exact confidence interval of a rate, in events per hour.

    Source: Garwood 1936, the exact interval for the mean of a Poisson distribution.
    """
    tail = (1 - confidence) / 2
    low = highest_rate(events - 1, hours, tail) if events else 0.0
    return low, highest_rate(events, hours, 1 - tail)


def heard(recalls: Iterable[Recall], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Return the figures of known sounds, each measured with a model not trained on it.

    Args:
        recalls: of several models.
        thresholds: by label, in the models' order.

    Returns:
        Number of models; sounds reported with their label, by label and in total; sounds reported
        with another label.
    """
    labels = list(thresholds)
    found, sounds = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0)
    models = wrong = 0
    for recall in recalls:
        models += 1
        is_found, is_wrong = recall.at(_steps(thresholds, recall))
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
    """Return the figures of known sounds in one window each, for runs without bundles.

    Args:
        evaluation: scores of held-out clips.
        thresholds: by label, in the models' order.

    Returns:
        Number of clips, of clips whose label reaches its threshold, and of clips where another
        label does.
    """
    above = evaluation.probabilities >= np.array(list(thresholds.values()))
    is_truth = np.arange(len(thresholds)) == evaluation.truth[:, np.newaxis]
    return {
        "sounds": len(above),
        "found": int((above & is_truth).any(axis=1).sum()),
        "wrong": int((above & ~is_truth).any(axis=1).sum()),
    }


def scores_of(bundle: Path, dataset: AudioDataset, rate_hz: int) -> FloatArray:
    """Return the scores of the first window of each clip, (clips, labels)."""
    classifier = StreamingClassifier(bundle)
    length = classifier.front_end.window_samples

    def scores(clip: Clip) -> FloatArray:
        sound = dataset.read(clip, rate_hz)[:length]
        return (classifier.push(sound) + classifier.flush())[0].scores

    return np.stack([scores(clip) for clip in dataset.clips])


def speed(bundle: Path) -> dict[str, Any]:
    """Measure the median CPU time per window of the network on one thread."""
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
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def _steps(thresholds: Mapping[str, float], trial: Background | Recall) -> IntArray:
    """Indices into the thresholds of a trial."""
    return np.array([trial.thresholds.index(threshold) for threshold in thresholds.values()])
