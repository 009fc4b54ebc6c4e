"""The listener as a process of its own, real sounds to play to it, and what it said and when.

`SEMANTICAC_BUNDLE` names the bundle that listens. It must know the demo's sounds, which are made
here: those of the fold that its training left out. The package's own model knows the sounds of
ESC-10, in `SEMANTICAC_ESC50_DIR`; it was trained on all of them.
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
# Between the sounds there is silence, of which a model has nothing to say.
GATE_DBFS = -60.0
# A machine may be busy; what is waited for comes at once where it is not.
PATIENCE_SECONDS = 60.0
STREAM_RATE_HZ = 44_100
# How near the times of a sound's event must be to the sound's, wherever in a hop it begins.
KNOWN_WITHIN_HOPS = 0.8
_CLIPS = 3
_ESC10_CLIPS = 12
# What it may take to decide that a sound is over.
_ENDING_HOPS = 10


def bundle() -> Path:
    """The bundle that listens; skips where there is none."""
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"needs {VARIABLE}, a bundle of: python -m training.fit --dataset demo")
    if Interpreter(path).contract.training.get("dataset") != "demo":
        pytest.skip(f"the bundle in {VARIABLE} does not know the demo's sounds")
    return Path(path)


def require_sound_server() -> None:
    """Skip where there is no sound server."""
    if reason := missing_programs():
        pytest.skip(reason)


@dataclass(frozen=True)
class Sound:
    """A sound whose label the bundle knows.

    Args:
        label: the class.
        samples: float32 at 44.1 kHz.
    """

    label: str
    samples: FloatArray

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / STREAM_RATE_HZ

    def repeated(self, seconds: float) -> "Sound":
        """The same for longer."""
        return Sound(self.label, np.resize(self.samples, round(seconds * STREAM_RATE_HZ)))


def known_sounds(model: Path, hop_seconds: float, count: int) -> list[Sound]:
    """Held-out sounds that the bundle knows, each of another label.

    Whether a model knows a sound, and how near its times are, is measured elsewhere; here none must
    be lost on its way. So these are sounds that the bundle gets right from a file, wherever in a
    hop they begin and also if they last.

    Args:
        model: the bundle.
        hop_seconds: of the listener.
        count: how many.

    Raises:
        LookupError: if there are fewer.
    """
    return _known(model, Policy(), hop_seconds, count, _demo_sounds)


def shipped_sounds(hop_seconds: float, count: int) -> list[Sound] | None:
    """The same for the package's model, with its own decisions, and clips of ESC-10.

    They are clips that it was trained on: what is tried is their way through the listener.

    Returns:
        The sounds; None where the model or the clips are not there.
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

    return _known(shipped.bundle, policy, hop_seconds, count, sounds)


def _demo_sounds(label: str) -> Iterator[Sound]:
    from training.datasets import demo

    for index in range(_CLIPS):
        yield Sound(label, demo.render(label, HELD_OUT_FOLD, index, STREAM_RATE_HZ))


def _known(
    model: Path,
    policy: Policy,
    hop_seconds: float,
    count: int,
    sounds: Callable[[str], Iterable[Sound]],
) -> list[Sound]:
    """The first sound of each of the first labels that is known well."""
    interpreter = Interpreter(model)
    found: list[Sound] = []
    for label in interpreter.contract.labels:
        for sound in sounds(label):
            trials = [(sound, phase) for phase in (0.0, 0.25, 0.5, 0.75)]
            trials.append((sound.repeated(12), 0.0))
            if all(_is_known(interpreter, policy, hop_seconds, *trial) for trial in trials):
                found.append(sound)
                break
        if len(found) == count:
            return found
    raise LookupError(f"the bundle knows only {len(found)} sounds well, {count} are needed")


def _is_known(
    interpreter: Interpreter, policy: Policy, hop_seconds: float, sound: Sound, phase: float
) -> bool:
    """Whether a recording of that sound alone gives that event alone, at the right time."""
    classifier = StreamingClassifier(interpreter, hop_seconds, gate_dbfs=GATE_DBFS)
    rate_hz = classifier.front_end.sample_rate_hz
    # A window without any of it comes before: only then is there a beginning to hear.
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
    """Write a recording of sounds with silence around each of them.

    Returns:
        When each begins, in seconds.
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
    """A recording on its way into a sink.

    When a player has begun is known to lie between its start and its end less the recording's
    length, by this process' clock.

    Args:
        process: the player.
        seconds: the recording's length.
    """

    process: subprocess.Popen[bytes]
    seconds: float
    earliest: float = field(default_factory=time.time)
    latest: float = float("nan")

    def wait(self) -> "Playing":
        """Wait for its end."""
        assert self.process.wait(self.seconds + PATIENCE_SECONDS) == 0
        self.latest = time.time() - self.seconds
        return self

    def stop(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def assert_heard(self, event: dict[str, Any], sound: Sound, hop: float, at: float = 0) -> None:
        """The event is that of the sound which is in the recording `at` so many seconds."""
        assert event["label"] == sound.label
        for time_key, offset in (("started_at", at), ("ended_at", at + sound.seconds)):
            error = event[time_key] - self.earliest - offset
            assert -hop <= error <= self.latest - self.earliest + hop, (time_key, error, event)


class Room:
    """A sound server, and what is played there.

    Args:
        directory: for recordings.
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
        """Begin to play a sound."""
        path = self._directory / f"{sound.label} {sound.seconds:g}.wav"
        if not path.exists():
            soundfile.write(path, sound.samples, STREAM_RATE_HZ, subtype="PCM_16")
        return self.play_file(path, sound.seconds, sink)

    def play_file(self, path: Path, seconds: float, sink: str | None = None) -> Playing:
        """Begin to play a recording."""
        began = time.time()
        playing = Playing(self.server.play(path, sink), seconds, began)
        self._players.append(playing.process)
        return playing


@dataclass(frozen=True)
class Line:
    """Something the listener wrote.

    Args:
        at: when it came, monotonic.
        text: of a line on stderr.
        values: of a line on stdout.
    """

    at: float
    text: str
    values: dict[str, Any] = field(default_factory=dict)


class Process:
    """`semanticac-edge --json`, as a context manager that ends it.

    Args:
        arguments: after the model.
        model: the bundle.
        environment: on top of ours.
        stdin: what it reads.
        keep: the values of windows to remember; all by default.

    Attributes:
        started_at: monotonic.
        words: lines on stderr.
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
        self._takes = threading.Event()
        self._takes.set()
        self._ended_well = False
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
        """End it, if it has not ended."""
        self._takes.set()
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
        """Its id."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """What it reads."""
        assert self._process.stdin
        return self._process.stdin

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; return the monotonic time."""
        self._process.send_signal(number)
        return time.monotonic()

    @contextlib.contextmanager
    def not_read(self) -> Iterator[None]:
        """Take none of its lines."""
        self._takes.clear()
        yield
        self._takes.set()

    def of(self, kind: str, since: float = 0.0) -> list[Line]:
        """Lines of a type that came since then."""
        with self._changed:
            return [
                line for line in self._lines if line.values["type"] == kind and line.at >= since
            ]

    def events(self, state: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Events, as they stood when they `"started"` or `"ended"`."""
        events = [line.values for line in self.of("event", since)]
        return [event for event in events if event["state"] == state]

    def said(self, text: str, since: float = 0.0) -> Line | None:
        """The first line on stderr with this text."""
        with self._changed:
            return next(
                (line for line in self.words if text in line.text and line.at > since), None
            )

    def wait(self, what: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
        """Wait until something is true of what it wrote, and return that."""
        deadline = time.monotonic() + seconds
        while True:
            if value := what():
                return value
            assert self._process.poll() is None, f"it ended: {self._report()}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {self._report()}"
            with self._changed:
                self._changed.wait(0.1)

    def wait_for_windows(self, count: int = 1) -> list[Line]:
        """Wait for so many windows more; return the newest ones."""
        since = time.monotonic()
        return self.wait(
            lambda: windows if len(windows := self.of("window", since)) >= count else None
        )

    def wait_for_silence(self) -> None:
        """Wait for a window that holds none of what was played."""
        since = time.monotonic()
        self.wait(lambda: any(line.values["gated"] for line in self.of("window", since)))

    def wait_for_word(self, text: str, since: float = 0.0) -> Line:
        """Wait for a line on stderr."""
        line = self.wait(lambda: self.said(text, since))
        assert line
        return line

    def wait_for_event(self, state: str, label: str, since: float) -> dict[str, Any]:
        """Wait for an event of a label that came since then."""
        return self.wait(
            lambda: next(
                (event for event in self.events(state, since) if event["label"] == label), None
            )
        )

    def lag(self, since: float, until: float = float("inf")) -> float:
        """How far the stream's time is behind the clock's, by the windows of a while.

        Lines may come late, and never early: the least difference counts.
        """
        windows = [line for line in self.of("window", since) if line.at <= until]
        return min(line.at - line.values["end_seconds"] for line in windows)

    def wait_for_end(self) -> int:
        """Wait until it ends by itself; return its status."""
        status = self._process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join()
        self._check_end()
        return status

    def stop(self) -> None:
        """Ask it to stop, as systemd does; it must do so well."""
        self.signal(signal.SIGTERM)
        assert self.wait_for_end() == 0, self._report()

    def _check_end(self) -> None:
        """Every event has ended, once, and nothing broke."""
        started = [event["id"] for event in self.events("started")]
        ended = [event["id"] for event in self.events("ended")]
        assert len(set(started)) == len(started)
        assert sorted(started) == sorted(ended)
        assert not self.said("Traceback"), self._report()

    def _read(self, pipe: IO[bytes], lines: list[Line], is_json: bool) -> None:
        while True:
            if is_json:
                self._takes.wait()
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
