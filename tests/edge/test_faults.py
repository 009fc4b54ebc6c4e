"""What goes wrong around a listener that is a real process, and what that costs.

Each test prints a row of the table in docs/device-faults.md:

    SEMANTICAC_BUNDLE=runs/demo/model.tflite pytest -rP tests/edge/test_faults.py | grep '^|'

A microphone's stream must keep time through all of it: what it lacks is in its gaps. Sounds outside
the gaps must be heard, at the right time; of those that a gap cuts, the event ends there.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.edge import mosquitto
from tests.edge.rig import (
    GATE_DBFS,
    PATIENCE_SECONDS,
    STREAM_RATE_HZ,
    Process,
    Room,
    bundle,
    known_sounds,
)

pytest.importorskip("paho.mqtt")

HOP_SECONDS = 0.5
# Between two moments in which sound flows, the stream's time and the clock's.
KEEPS_TIME_SECONDS = 0.3
BACKLOG_SECONDS = 10.0
# As long as it takes to lose something by it; SEMANTICAC_STALL_SECONDS makes it longer.
STALL_SECONDS = float(os.environ.get("SEMANTICAC_STALL_SECONDS", BACKLOG_SECONDS + 6))
DECIDE = ("--hop", HOP_SECONDS, "--gate-dbfs", GATE_DBFS, "--refractory", 0)
TOPIC = "semanticac/hall"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return bundle()


@pytest.fixture(scope="module")
def sounds(model):
    """Two sounds that the bundle knows."""
    return known_sounds(model, HOP_SECONDS, 2)


class Hall:
    """A room, and a listener there that lives through what follows, one fault after the other.

    Attributes:
        process: the listener.
        processes: all that there were, the latest last.
        disk: small, if we may mount one.
    """

    def __init__(self, directory, model, room, broker, watcher):
        self.room, self.broker, self.watcher = room, broker, watcher
        self.model, self.disk = directory / "model.tflite", directory / "disk"
        self.processes = []
        shutil.copy(model, self.model)

    def start(self):
        """Start the listener, and wait for its first window."""
        self.process = Process(
            *("--device", "vmic.monitor", *DECIDE),
            *("--mqtt", self.broker.url(None), "--mqtt-topic", TOPIC),
            *("--clips", self.clips, "--clips-quota-mb", 4),
            model=self.model,
            environment=self.room.server.environment,
        )
        self.processes.append(self.process)
        self.process.wait_for_windows()

    def close(self):
        """End it in any case."""
        for process in self.processes:
            process.close()

    @property
    def clips(self):
        """Where recordings of the events are."""
        return self.disk / "clips"


@pytest.fixture(scope="module")
def hall(tmp_path_factory, model):
    directory = tmp_path_factory.mktemp("hall")
    (directory / "disk").mkdir()
    with (
        tmpfs(directory / "disk", "8m"),
        mosquitto.Mosquitto(directory) as broker,
        mosquitto.Watcher(broker, user=None) as watcher,
        Room(directory, ("vmic", "other")) as room,
        contextlib.closing(Hall(directory, model, room, broker, watcher)) as hall,
    ):
        hall.start()
        yield hall


def row(fault, detected, recovered, missing, lost="0"):
    """Print what one fault cost; times in seconds."""
    cells = [
        f"{cell:.1f} s" if isinstance(cell, float) else cell
        for cell in (detected, recovered, missing)
    ]
    print("|", " | ".join([fault, *cells, lost]), "|")


def assert_heard(process, room, sound, sink=None):
    """A sound that is played after silence becomes an event at the right time; return that."""
    process.wait_for_silence()
    since = time.monotonic()
    playing = room.play(sound, sink).wait()
    event = process.wait_for_event("ended", sound.label, since)
    playing.assert_heard(event, sound, HOP_SECONDS)
    assert event["end_reason"] == "quiet"
    return event


def begin(process, room, sound, sink=None):
    """Begin to play a sound that does not end soon; return the player once it is heard."""
    process.wait_for_silence()
    since = time.monotonic()
    playing = room.play(sound.repeated(120), sink)
    event = process.wait_for_event("started", sound.label, since)
    assert -HOP_SECONDS <= event["started_at"] - playing.earliest <= HOP_SECONDS + 1
    return playing


def assert_cut(process, sound, broke_at, since):
    """The event of a sound that a gap cut has ended where the sound broke off (Unix time)."""
    event = process.wait_for_event("ended", sound.label, since)
    assert event["end_reason"] == "gap"
    assert event["ended_at"] == pytest.approx(broke_at, abs=HOP_SECONDS + KEEPS_TIME_SECONDS)


def assert_keeps_time(process, before, after):
    """Samples and gaps are as long as the time; return how much is missing.

    Args:
        before: monotonic time until which all was well.
        after: from which it was again.
    """
    was, now = process.lag(before - 3, before), process.lag(after)
    assert now == pytest.approx(was, abs=KEEPS_TIME_SECONDS)
    gaps = [line.values["seconds"] for line in process.of("gap", before)]
    windows = [line.values for line in process.of("window", before - 1)]
    steps = np.diff([window["end_seconds"] for window in windows])
    # Only where something is missing is the next window later than a hop. It begins with what
    # comes after the gap, and the one before may have ended a hop before it. What comes between
    # two gaps of a step is too short for a window.
    late = steps[steps > HOP_SECONDS * 1.01]
    window_seconds = windows[0]["end_seconds"] - windows[0]["start_seconds"]
    between = len(gaps) - len(late)
    assert between >= 0, f"gaps: {gaps}, steps: {late}"
    most = len(late) * (window_seconds + 2 * HOP_SECONDS) + between * window_seconds
    assert 0 <= late.sum() - sum(gaps) <= most, f"gaps: {gaps}, steps: {late}"
    return sum(gaps)


def test_the_sound_server_dies_and_comes_back(hall, sounds):
    process, room = hall.process, hall.room
    begin(process, room, sounds[0])
    died, died_at = time.monotonic(), time.time()
    room.server.kill()
    detected = process.wait_for_word("No sound", died).at - died
    assert_cut(process, sounds[0], died_at, died)
    room.server.start()
    back = time.monotonic()
    recovered = process.wait_for_word("again;", back).at - back
    process.wait_for_windows()
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, died, back + recovered)
    assert missing == pytest.approx(back + recovered - died, abs=1.0)
    row("sound server killed, started again", detected, recovered, missing)


def test_the_sound_server_hangs_for_a_while(hall, sounds):
    process, room = hall.process, hall.room
    playing = begin(process, room, sounds[0])
    died, died_at = time.monotonic(), time.time()
    room.server.stop()
    detected = process.wait_for_word("No sound", died).at - died
    assert_cut(process, sounds[0], died_at, died)
    time.sleep(max(0.0, died + 5 - time.monotonic()))
    playing.stop()
    room.server.cont()
    back = time.monotonic()
    recovered = process.wait_for_word("again;", back).at - back
    process.wait_for_windows()
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, died, back + recovered)
    row("sound server hangs for 5 s (SIGSTOP)", detected, recovered, missing)


def test_the_microphone_is_unplugged_and_another_put_in_its_place(hall, sounds):
    process, room = hall.process, hall.room
    begin(process, room, sounds[0])
    died, died_at = time.monotonic(), time.time()
    room.server.remove_sink("vmic")
    detected = process.wait_for_word("No sound", died).at - died
    assert_cut(process, sounds[0], died_at, died)
    # The server offers this one; nobody asked for it.
    room.play(sounds[1], "other").wait()
    assert process.events("started", since=died) == []
    room.server.add_sink("vmic")
    back = time.monotonic()
    recovered = process.wait_for_word("again;", back).at - back
    process.wait_for_windows()
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, died, back + recovered)
    row("microphone unplugged, another in its place", detected, recovered, missing)


def test_the_broker_stops_and_comes_back(hall, sounds):
    process, room, watcher = hall.process, hall.room, hall.watcher
    watcher.wait(f"{TOPIC}/event", len(process.of("event")))
    watcher.settle()
    died = time.monotonic()
    hall.broker.stop()
    detected = process.wait_for_word("no connection", died).at - died
    assert_heard(process, room, sounds[1])
    hall.broker.start()
    back = time.monotonic()
    watcher.wait(f"{TOPIC}/event", len(process.of("event")), PATIENCE_SECONDS)
    recovered = time.monotonic() - back
    assert process.of("gap", died) == []
    row("broker stopped, started again", detected, recovered, 0.0, "0, kept meanwhile")


def test_the_disk_for_clips_is_full_for_a_while(hall, sounds):
    if not hall.disk.is_mount():
        pytest.skip("needs to mount a tmpfs (as root)")
    process, room, clips = hall.process, hall.room, hall.clips
    filling = hall.disk / "filling"
    began = time.monotonic()
    fill(filling)
    lost = assert_heard(process, room, sounds[0])
    process.wait_for_word("Clips: cannot write", began)
    filling.unlink()
    freed = time.monotonic()
    kept = assert_heard(process, room, sounds[1])
    process.wait_for_word("again", freed)
    assert (clips / kept["clip"]).exists()
    assert not (clips / lost["clip"]).exists()
    assert process.of("gap", began) == []
    row("disk for clips full, then not", "at the clip", "at the next", 0.0, "0, but one clip")


def fill(path):
    """Write a file that takes all the room there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_corrupt_model_is_not_taken(hall, sounds, model):
    process, room = hall.process, hall.room
    playing = begin(process, room, sounds[0])
    hall.model.write_bytes(model.read_bytes()[:-1000])
    told = process.signal(signal.SIGHUP)
    detected = process.wait_for_word("Not reloaded", told).at - told
    process.wait_for_windows(4)
    # As if nothing had been: the sound goes on, window follows upon window.
    assert process.events("ended", since=told) == []
    ends = [line.values["end_seconds"] for line in process.of("window", told - 1)]
    assert np.diff(ends) == pytest.approx(HOP_SECONDS)
    shutil.copy(model, hall.model)
    replaced = process.signal(signal.SIGHUP)
    process.wait_for_word("Reloaded", replaced)
    assert process.wait_for_event("ended", sounds[0].label, told)["end_reason"] == "stopped"
    process.wait_for_event("started", sounds[0].label, replaced)
    playing.stop()
    assert process.wait_for_event("ended", sounds[0].label, time.monotonic())
    assert process.of("gap", told) == []
    row("corrupt model on SIGHUP", detected, "not needed", 0.0, "0, the old one goes on")


def test_the_listener_is_stopped_for_a_while(hall, sounds):
    process, room = hall.process, hall.room
    playing = begin(process, room, sounds[0])
    stopped, stopped_at = process.signal(signal.SIGSTOP), time.time()
    time.sleep(STALL_SECONDS)
    playing.stop()
    went_on, went_on_at = process.signal(signal.SIGCONT), time.time()
    event = process.wait_for_event("ended", sounds[0].label, went_on)
    assert event["end_reason"] == "gap"
    assert stopped_at - HOP_SECONDS <= event["ended_at"] <= went_on_at
    # What waited elsewhere, as in the sound server, is heard late, and told at its own time.
    process.wait(lambda: process.of("window")[-1].values["end_seconds"] > went_on - stopped)
    caught_up = process.wait_for_windows(4)[0].at
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, stopped, caught_up)
    assert 0 < missing < went_on - stopped + 1
    name = f"listener stopped for {STALL_SECONDS:g} s (SIGSTOP)"
    row(name, "when it goes on", caught_up - went_on, missing)


def test_nobody_takes_the_lines_for_a_while(hall, sounds):
    """The last ten seconds wait; what was before is lost."""
    process, room = hall.process, hall.room
    # Else a pipe holds minutes of lines.
    fcntl.fcntl(process.stdout_fd, fcntl.F_SETPIPE_SZ, 4096)
    well = time.monotonic()
    with process.not_read():
        time.sleep(STALL_SECONDS - 4)
        playing = room.play(sounds[0]).wait()
        time.sleep(max(0.0, well + STALL_SECONDS - time.monotonic()))
    went_on = time.monotonic()
    # However late it is told, it was then.
    event = process.wait_for_event("ended", sounds[0].label, well)
    playing.assert_heard(event, sounds[0], HOP_SECONDS)
    caught_up = process.wait_for_windows(4)[0].at
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, well, caught_up)
    assert missing < STALL_SECONDS - BACKLOG_SECONDS
    assert not process.said("No sound", well)
    name = f"nobody reads the lines for {STALL_SECONDS:g} s"
    row(name, f"when {BACKLOG_SECONDS:g} s wait", caught_up - went_on, missing)


def test_the_listener_is_killed_and_started_again(hall, sounds):
    watcher = hall.watcher
    playing = begin(hall.process, hall.room, sounds[0])
    state = f"{TOPIC}/state/{sounds[0].label.replace(' ', '_')}"
    # What it has not sent dies with it.
    event_id = hall.process.events("started")[-1]["id"]
    mosquitto.wait_until(lambda: any(event_id in text for text in watcher.on(f"{TOPIC}/event")))
    mosquitto.wait_until(lambda: watcher.on(state)[-1] == "ON")
    told = len(watcher.on(state))
    died = hall.process.signal(signal.SIGKILL)
    mosquitto.wait_until(lambda: watcher.on(f"{TOPIC}/status")[-1] == "offline")
    detected = time.monotonic() - died
    hall.start()
    recovered = hall.process.of("window")[0].at - hall.process.started_at
    # What was on when it died is off, until it is heard again.
    hall.process.wait_for_event("started", sounds[0].label, died)
    assert watcher.wait(state, told + 2)[told:] == ["OFF", "ON"]
    playing.stop()
    assert_heard(hall.process, hall.room, sounds[1])
    name = "listener killed (SIGKILL), started again"
    row(name, detected, recovered, "while it was down", "0, the open one has no end")


def test_it_is_asked_to_stop(hall, sounds):
    """Within a sound; and of all that went before every event has reached the broker, in order."""
    begin(hall.process, hall.room, sounds[0])
    told, told_at = time.monotonic(), time.time()
    hall.process.stop()
    ended = time.monotonic() - told
    event = hall.process.events("ended")[-1]
    assert event["end_reason"] == "stopped"
    assert event["ended_at"] == pytest.approx(told_at, abs=HOP_SECONDS + KEEPS_TIME_SECONDS)
    assert (hall.clips / event["clip"]).exists()
    events = [line.values for process in hall.processes for line in process.of("event")]
    topic = f"{TOPIC}/event"
    hall.watcher.wait(topic, len(events))
    # One whose receipt a broken connection swallowed may come twice.
    messages = [json.loads(payload) for payload in hall.watcher.on(topic)]
    published = dict.fromkeys((message["id"], message["state"]) for message in messages)
    assert list(published) == [(event["id"], event["state"]) for event in events]
    row("SIGTERM within a sound", ended, "not needed", 0.0, "0, its event ends")


def test_the_time_of_day_is_set(tmp_path, model, sounds):
    """An hour ahead within a sound, as a machine without a battery does once it is online.

    The source is a pipe at the pace of time: libfaketime has processes wait for each other, and a
    capturing one that waits loses sound.
    """
    ahead, rate = 3600.0, STREAM_RATE_HZ
    offset, replacement = tmp_path / "offset", tmp_path / "new"
    offset.write_text("+0\n")
    replacement.write_text(f"+{ahead:.0f}\n")
    pause, long = np.zeros(5 * rate, np.float32), sounds[0].repeated(6)
    samples = np.concatenate([pause, long.samples, pause, sounds[1].samples, pause])
    blocks = np.array_split(samples, round(10 * samples.size / rate))
    with Process(
        *("--stdin", "--rate", rate, "--format", "f32le", *DECIDE),
        model=model,
        environment=fake_time(offset),
        stdin=subprocess.PIPE,
    ) as process:
        began, began_at = time.monotonic(), time.time()
        for number, block in enumerate(blocks):
            time.sleep(max(0.0, began + number / 10 - time.monotonic()))
            process.stdin.write(block.astype("<f4").tobytes())
            process.stdin.flush()
            if number == 90:
                assert process.wait_for_event("started", long.label, 0.0)
                replacement.replace(offset)
        process.stdin.close()
        assert process.wait_for_end() == 0
    assert process.of("gap") == []
    across, after = process.events("ended")
    # It has its length, whatever the clock says; the next one has the new time.
    for event, start, end in ((across, 5, 11), (after, 16 + ahead, 16 + ahead + sounds[1].seconds)):
        tolerance = HOP_SECONDS + KEEPS_TIME_SECONDS
        assert event["started_at"] - began_at == pytest.approx(start, abs=tolerance)
        assert event["ended_at"] - began_at == pytest.approx(end, abs=tolerance)
    row(
        "clock set an hour ahead (--stdin)",
        "at once",
        "at once",
        0.0,
        "0, the next has the new time",
    )


def test_samples_that_are_no_numbers_and_far_too_loud_ones(model, sounds):
    """A program that pipes samples may have a fault of its own."""
    pause = np.zeros(6 * STREAM_RATE_HZ, np.float32)
    nan = np.full(STREAM_RATE_HZ, np.nan, np.float32)
    infinite = np.full(STREAM_RATE_HZ, -np.inf, np.float32)
    square = np.sign(np.sin(np.arange(2 * STREAM_RATE_HZ) * 0.06)).astype(np.float32)
    parts = [pause, sounds[0].samples, pause, nan, pause, square, pause, 1e6 * square, pause]
    parts += [1e30 * square, pause, infinite, pause, sounds[1].samples, pause]
    starts = np.cumsum([0, *map(len, parts)]) / STREAM_RATE_HZ
    with Process(
        *("--stdin", "--rate", STREAM_RATE_HZ, "--format", "f32le", *DECIDE),
        model=model,
        stdin=subprocess.PIPE,
    ) as process:
        for part in parts:
            process.stdin.write(part.astype("<f4").tobytes())
        process.stdin.close()
        assert process.wait_for_end() == 0
    windows = [line.values for line in process.of("window")]
    # Log-mel frames have 10 ms.
    assert windows[-1]["end_seconds"] == pytest.approx(starts[-1], abs=0.011)
    assert all(np.isfinite(list(window["scores"].values())).all() for window in windows)
    events = process.events("ended")
    for sound, start in ((sounds[0], starts[1]), (sounds[1], starts[-3])):
        (event,) = [
            event
            for event in events
            if event["label"] == sound.label and abs(event["start_seconds"] - start) < 2
        ]
        assert event["start_seconds"] == pytest.approx(start, abs=HOP_SECONDS)
        assert event["end_seconds"] == pytest.approx(start + sound.seconds, abs=HOP_SECONDS)
    missing = sum(line.values["seconds"] for line in process.of("gap"))
    # A second each of what is no number, two of what no spectrum holds; blocks have 0.1 s.
    assert missing == pytest.approx(4.0, abs=0.5)
    row("NaN, infinity, full scale, 10³⁰ times that", "at once", "at once", missing)


@contextlib.contextmanager
def tmpfs(directory, size):
    """A small disk, if we may mount one; whether it is small."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", directory]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fake_time(offset):
    """Environment of a process whose time of day is ours and what the file `offset` says."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("needs libfaketime (apt-get install libfaketime)")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
