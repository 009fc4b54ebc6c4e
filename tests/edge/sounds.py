"""Sounds that a bundle recognises, to play to a listener.

`SEMANTICAC_BUNDLE` is the path of a bundle trained on the demo dataset. Its sounds are rendered
here, from the fold held out of its training. The packaged model's sounds are clips of ESC-10, in
`SEMANTICAC_ESC50_DIR`; it was trained on all of them.
"""

import argparse
import csv
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from edge import StreamingClassifier
from edge.config.assembly import make_policy
from edge.config.settings import DecisionSettings, add_settings, read_settings
from edge.events.detector import Detector, Policy
from edge.inference.interpreter import Interpreter
from edge.inference.packaged import packaged_model
from edge.types import FloatArray

VARIABLE = "SEMANTICAC_BUNDLE"
ESC50_VARIABLE = "SEMANTICAC_ESC50_DIR"
HELD_OUT_FOLD = 1
# The silence between sounds is below this level, so that it gives no events.
GATE_DBFS = -60.0
STREAM_RATE_HZ = 44_100
# Largest error of an event's start and end, in hops, wherever in a hop the sound begins.
KNOWN_WITHIN_HOPS = 0.8
_CLIPS = 3
_ESC10_CLIPS = 12
# Of the listeners that hear the known sounds: short, so that a gap nearby loses none of them.
SMOOTHING_SECONDS = 1.5
# Largest number of hops until the end of a sound is detected.
_ENDING_HOPS = 10


def bundle() -> Path:
    """Return the bundle under test; skip without one."""
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"needs {VARIABLE}, a bundle of: python -m training.fit --dataset demo")
    if Interpreter(path).contract.training.get("dataset") != "demo":
        pytest.skip(f"the bundle in {VARIABLE} was not trained on the demo dataset")
    return Path(path)


@dataclass(frozen=True)
class Sound:
    """A sound of one of the bundle's labels.

    Args:
        label: the class.
        samples: float32 at 44.1 kHz.
    """

    label: str
    samples: FloatArray

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / STREAM_RATE_HZ

    def repeated(self, seconds: float) -> "Sound":
        """Return the sound, repeated or cut to a length."""
        return Sound(self.label, np.resize(self.samples, round(seconds * STREAM_RATE_HZ)))


@cache
def known_sounds(
    model: Path,
    hop_seconds: float,
    count: int,
    seconds: float | None = None,
    smoothing_seconds: float = SMOOTHING_SECONDS,
) -> list[Sound]:
    """Return held-out sounds that the bundle recognises, each of a different label.

    The accuracy of a model is measured elsewhere; these tests check that no sound is lost on its
    way. So the bundle recognises each of these sounds in a file, wherever in a hop it begins, and
    also if it lasts.

    Args:
        model: the bundle.
        hop_seconds: hop of the listener.
        count: number of sounds.
        seconds: length of the sounds; None for that of the clips.
        smoothing_seconds: time of the listener's mean.

    Raises:
        LookupError: if the bundle recognises fewer.
    """

    def sounds(label: str) -> Iterator[Sound]:
        for sound in _demo_sounds(label):
            yield sound if seconds is None else sound.repeated(seconds)

    policy = make_policy(DecisionSettings(smoothing=smoothing_seconds), hop_seconds)
    return _recognised(model, policy, hop_seconds, count, sounds)


def shipped_sounds(hop_seconds: float, count: int) -> list[Sound] | None:
    """Return clips of ESC-10 that the packaged model recognises with its own decision settings.

    The model was trained on these clips; the tests check their way through the listener.

    Returns:
        The sounds; None if the model or the clips are missing.
    """
    shipped, directory = packaged_model(), os.environ.get(ESC50_VARIABLE)
    if shipped is None or directory is None:
        return None
    parser = argparse.ArgumentParser()
    add_settings(parser)
    policy = make_policy(read_settings(parser.parse_args(["--mic"])).decisions, hop_seconds)
    with (Path(directory) / "meta" / "esc50.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["esc10"] == "True"]

    def sounds(label: str) -> Iterator[Sound]:
        names = [row["filename"] for row in rows if row["category"].replace("_", " ") == label]
        for name in names[:_ESC10_CLIPS]:
            path = Path(directory) / "audio" / name
            yield Sound(label, soundfile.read(path, dtype="float32")[0])

    return _recognised(shipped.bundle, policy, hop_seconds, count, sounds)


def _demo_sounds(label: str) -> Iterator[Sound]:
    from training.datasets import demo

    for index in range(_CLIPS):
        yield Sound(label, demo.render(label, HELD_OUT_FOLD, index, STREAM_RATE_HZ))


def _recognised(
    model: Path,
    policy: Policy,
    hop_seconds: float,
    count: int,
    sounds: Callable[[str], Iterable[Sound]],
) -> list[Sound]:
    """Return the first recognised sound of each of the first labels that have one."""
    interpreter = Interpreter(model)
    found: list[Sound] = []
    for label in interpreter.contract.labels:
        for sound in sounds(label):
            trials = [(sound, phase) for phase in (0.0, 0.25, 0.5, 0.75)]
            trials.append((sound.repeated(12), 0.0))
            if all(_is_recognised(interpreter, policy, hop_seconds, *trial) for trial in trials):
                found.append(sound)
                break
        if len(found) == count:
            return found
    raise LookupError(f"the bundle recognises only {len(found)} sounds, {count} are needed")


def _is_recognised(
    interpreter: Interpreter, policy: Policy, hop_seconds: float, sound: Sound, phase: float
) -> bool:
    """Return whether a recording of the sound gives exactly its event, at the right time."""
    classifier = StreamingClassifier(interpreter, hop_seconds, gate_dbfs=GATE_DBFS)
    rate_hz = classifier.front_end.sample_rate_hz
    # The first window must not contain the sound: the event needs a start.
    start = classifier.front_end.window_seconds + (1 + phase) * hop_seconds
    samples = soxr.resample(sound.samples, STREAM_RATE_HZ, rate_hz).astype(np.float32)
    before = np.zeros(round(start * rate_hz), np.float32)
    after = np.zeros(
        round((_ENDING_HOPS + policy.smoothing_windows) * hop_seconds * rate_hz), np.float32
    )
    detector = Detector(policy, classifier.labels, classifier.hop_seconds)
    windows = classifier.push(np.concatenate([before, samples, after]))
    events = [event for window in windows for event in detector.update(window)]
    ended = [event for event in events if event.end_seconds is not None]
    if [event.label for event in ended] != [sound.label]:
        return False
    assert ended[0].end_seconds is not None
    errors = (ended[0].start_seconds - start, ended[0].end_seconds - start - sound.seconds)
    return max(map(abs, errors)) <= KNOWN_WITHIN_HOPS * hop_seconds


def programme(sounds: list[Sound], pause_seconds: float, path: Path) -> list[float]:
    """Write a recording of the sounds with silence around each.

    Returns:
        The start of each sound, in seconds.
    """
    pause = np.zeros(round(pause_seconds * STREAM_RATE_HZ), np.float32)
    parts, starts, seconds = [pause], [], pause_seconds
    for sound in sounds:
        parts += [sound.samples, pause]
        starts.append(seconds)
        seconds += sound.seconds + pause_seconds
    soundfile.write(path, np.concatenate(parts), STREAM_RATE_HZ, subtype="PCM_16")
    return starts
