"""Test rig: the listener as a process, sounds to play to it, and its output with arrival times.

`SEMANTICAC_BUNDLE` is the path of a bundle trained on the demo dataset. Its sounds are rendered
here, from the fold held out of its training. The packaged model's sounds are clips of ESC-10, in
`SEMANTICAC_ESC50_DIR`; it was trained on all of them.
"""

import argparse
import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import numpy as np
import pytest
import soundfile
import soxr

from edge import StreamingClassifier
from edge.config.assembly import make_policy
from edge.config.settings import add_settings, read_settings
from edge.events.detector import Detector, Policy
from edge.inference.interpreter import Interpreter
from edge.inference.packaged import packaged_model
from edge.types import FloatArray
from tests.edge.sound_server import SoundServer, missing_programs

T = TypeVar("T")

VARIABLE = "SEMANTICAC_BUNDLE"
ESC50_VARIABLE = "SEMANTICAC_ESC50_DIR"
HELD_OUT_FOLD = 1
# The silence between sounds is below this level, so that it gives no events.
GATE_DBFS = -60.0
# Timeout of every wait; long, because the machine may be busy.
PATIENCE_SECONDS = 60.0
STREAM_RATE_HZ = 44_100
# Largest error of an event's start and end, in hops, wherever in a hop the sound begins.
KNOWN_WITHIN_HOPS = 0.8
_CLIPS = 3
_ESC10_CLIPS = 12
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


def require_sound_server() -> None:
    """Skip without a sound server."""
    if reason := missing_programs():
        pytest.skip(reason)


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


def known_sounds(model: Path, hop_seconds: float, count: int) -> list[Sound]:
    """Return held-out sounds that the bundle recognises, each of a different label.

    The accuracy of a model is measured elsewhere; these tests check that no sound is lost on its
    way. So the bundle recognises each of these sounds in a file, wherever in a hop it begins, and
    also if it lasts.

    Args:
        model: the bundle.
        hop_seconds: hop of the listener.
        count: number of sounds.

    Raises:
        LookupError: if the bundle recognises fewer.
    """
    return _recognised(model, Policy(), hop_seconds, count, _demo_sounds)


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
    policy = make_policy(read_settings(parser.parse_args(["--mic"])).decisions)
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


@dataclass
class Playing:
    """A recording that is being played.

    By this process's clock, playback began between the player's start and its end less the length
    of the recording.

    Args:
        process: the player.
        seconds: length of the recording.
        earliest: Unix time of the player's start.
        latest: latest Unix time at which playback began; NaN until `wait` returns.
    """

    process: subprocess.Popen[bytes]
    seconds: float
    earliest: float = field(default_factory=time.time)
    latest: float = float("nan")

    def wait(self) -> "Playing":
        """Wait for the end of the recording."""
        assert self.process.wait(self.seconds + PATIENCE_SECONDS) == 0
        self.latest = time.time() - self.seconds
        return self

    def stop(self) -> None:
        """Stop playback immediately."""
        self.process.kill()
        self.process.wait()

    def assert_heard(self, event: dict[str, Any], sound: Sound, hop: float, at: float = 0) -> None:
        """Assert that the event has the label and times of a sound at `at` s in the recording."""
        assert event["label"] == sound.label
        for time_key, offset in (("started_at", at), ("ended_at", at + sound.seconds)):
            error = event[time_key] - self.earliest - offset
            assert -hop <= error <= self.latest - self.earliest + hop, (time_key, error, event)


class Room:
    """A sound server and its players, as a context manager.

    Args:
        directory: where to write recordings.
        sinks: see `SoundServer`.
    """

    def __init__(self, directory: Path, sinks: tuple[str, ...] = ("vmic",)) -> None:
        require_sound_server()
        self._directory = directory
        self._players: list[subprocess.Popen[bytes]] = []
        self.server = SoundServer(sinks, STREAM_RATE_HZ)

    def __enter__(self) -> Self:
        try:
            self.server.start()
        except BaseException:
            self.server.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for player in self._players:
            player.kill()
            player.wait()
        self.server.close()

    def play(self, sound: Sound, sink: str | None = None) -> Playing:
        """Start to play a sound."""
        path = self._directory / f"{sound.label} {sound.seconds:g}.wav"
        if not path.exists():
            soundfile.write(path, sound.samples, STREAM_RATE_HZ, subtype="PCM_16")
        return self.play_file(path, sound.seconds, sink)

    def play_file(self, path: Path, seconds: float, sink: str | None = None) -> Playing:
        """Start to play a recording."""
        began = time.time()
        playing = Playing(self.server.play(path, sink), seconds, began)
        self._players.append(playing.process)
        return playing


@dataclass(frozen=True)
class Line:
    """A line that the listener wrote.

    Args:
        at: monotonic time of its arrival.
        text: a line of stderr.
        values: the JSON object of a line of stdout.
    """

    at: float
    text: str
    values: dict[str, Any] = field(default_factory=dict)


class Process:
    """A process of `semanticac-edge --json`, as a context manager that ends it.

    Args:
        arguments: options after the model.
        model: the bundle; None for the default.
        environment: variables to add to ours.
        stdin: standard input, as for `subprocess.Popen`.
        keep: keys to keep of each window's values; all by default.

    Attributes:
        started_at: monotonic time of the start.
        words: lines of stderr.
    """

    def __init__(
        self,
        *arguments: str | Path,
        model: Path | None,
        environment: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        keep: Collection[str] | None = None,
    ) -> None:
        script = Path(sys.executable).with_name("semanticac-edge")
        program = [str(script)] if script.exists() else [sys.executable, "-m", "edge"]
        choice = [] if model is None else ["--model", str(model)]
        command = [*program, *choice, "--json", *map(str, arguments)]
        self._keep = keep
        self._lines: list[Line] = []
        self.words: list[Line] = []
        self._changed = threading.Condition()
        self._reads = threading.Event()
        self._reads.set()
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
        assert self._process.stdout
        assert self._process.stderr
        self.stdout_fd = self._process.stdout.fileno()
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._lines, True)),
            threading.Thread(target=self._read, args=(self._process.stderr, self.words, False)),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if it runs, and join its threads."""
        self._reads.set()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Pipe to its standard input."""
        assert self._process.stdin
        return self._process.stdin

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; return the monotonic time of sending."""
        self._process.send_signal(number)
        return time.monotonic()

    @contextlib.contextmanager
    def not_read(self) -> Iterator[None]:
        """Stop reading its stdout."""
        self._reads.clear()
        yield
        self._reads.set()

    def of(self, kind: str, since: float = 0.0) -> list[Line]:
        """Return the lines of a type that arrived since a monotonic time."""
        with self._changed:
            return [
                line for line in self._lines if line.values["type"] == kind and line.at >= since
            ]

    def events(self, state: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Return the events of a state, `"started"` or `"ended"`."""
        events = [line.values for line in self.of("event", since)]
        return [event for event in events if event["state"] == state]

    def find_word(self, text: str, since: float = 0.0) -> Line | None:
        """Return the first line of stderr that contains the text."""
        with self._changed:
            return next(
                (line for line in self.words if text in line.text and line.at > since), None
            )

    def wait(self, what: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
        """Wait until a function returns a true value; return that value."""
        deadline = time.monotonic() + seconds
        while True:
            if value := what():
                return value
            assert self._process.poll() is None, f"the listener ended: {self._report()}"
            assert time.monotonic() < deadline, f"timeout after {seconds} s: {self._report()}"
            with self._changed:
                self._changed.wait(0.1)

    def wait_for_windows(self, count: int = 1) -> list[Line]:
        """Wait for this many new windows and return them."""
        since = time.monotonic()
        return self.wait(
            lambda: windows if len(windows := self.of("window", since)) >= count else None
        )

    def wait_for_silence(self) -> None:
        """Wait for a new window that contains no sound."""
        since = time.monotonic()
        self.wait(lambda: any(line.values["gated"] for line in self.of("window", since)))

    def wait_for_word(self, text: str, since: float = 0.0) -> Line:
        """Wait for a line of stderr that contains the text."""
        line = self.wait(lambda: self.find_word(text, since))
        assert line
        return line

    def wait_for_event(self, state: str, label: str, since: float) -> dict[str, Any]:
        """Wait for an event of a label that arrived since a monotonic time."""
        return self.wait(
            lambda: next(
                (event for event in self.events(state, since) if event["label"] == label), None
            )
        )

    def lag(self, since: float, until: float = float("inf")) -> float:
        """Return how far stream time lags behind the clock, from the windows of a period.

        Lines can arrive late but never early, so this is the smallest difference.
        """
        windows = [line for line in self.of("window", since) if line.at <= until]
        return min(line.at - line.values["end_seconds"] for line in windows)

    def wait_for_end(self) -> int:
        """Wait until the process ends by itself; return its exit status."""
        status = self._process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join()
        self._check_end()
        return status

    def stop(self) -> None:
        """Send SIGTERM, as systemd does, and assert a clean exit."""
        self.signal(signal.SIGTERM)
        assert self.wait_for_end() == 0, self._report()

    def _check_end(self) -> None:
        """Assert that each event ended exactly once, without a traceback."""
        started = [event["id"] for event in self.events("started")]
        ended = [event["id"] for event in self.events("ended")]
        assert len(set(started)) == len(started)
        assert sorted(started) == sorted(ended)
        assert not self.find_word("Traceback"), self._report()

    def _read(self, pipe: IO[bytes], lines: list[Line], is_json: bool) -> None:
        while True:
            if is_json:
                self._reads.wait()
            raw = pipe.readline()
            if not raw:
                return
            text = raw.decode().rstrip("\n")
            line = Line(time.monotonic(), text)
            if is_json:
                line = Line(line.at, "", self._values(text))
            with self._changed:
                lines.append(line)
                self._changed.notify_all()

    def _values(self, text: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(text)
        if self._keep is None or values["type"] != "window":
            return values
        return {key: values[key] for key in self._keep}

    def _report(self) -> str:
        gaps = [line.values for line in self.of("gap")]
        events = [
            (event["label"], event["start_seconds"], event["end_seconds"])
            for event in (line.values for line in self.of("event"))
        ]
        return "\n".join([*(line.text for line in self.words), f"gaps {gaps}, events {events}"])
