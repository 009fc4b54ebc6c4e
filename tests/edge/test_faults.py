"""Faults around a listener process with a microphone, a broker and a disk, and their cost.

Each test prints a row of the table in docs/device-faults.md:

    SEMANTICAC_BUNDLE=runs/demo/model.tflite pytest -rP tests/edge/test_faults.py | grep '^|'

Through every fault the stream must keep time: missing samples are reported as gaps. Each sound
outside a gap must give an event at the right time; a gap ends the event of the sound that it cuts.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

from tests.edge import mosquitto
from tests.edge.hall import (
    HOP_SECONDS,
    KEEPS_TIME_SECONDS,
    SOUND_SECONDS,
    TOPIC,
    Hall,
    assert_cut,
    assert_heard,
    assert_keeps_time,
    begin,
    row,
    tmpfs,
)
from tests.edge.rig import PATIENCE_SECONDS
from tests.edge.room import Room
from tests.edge.sounds import bundle, known_sounds

pytest.importorskip("paho.mqtt")

# SEMANTICAC_STALL_SECONDS makes the stalls longer, and leaves the microphone its own limits.
LONGER = "SEMANTICAC_STALL_SECONDS" in os.environ
# The queue holds a window of silence and a sound.
LIMITS = {"queue_seconds": 6.0, "stall_seconds": 1.5, "retry_seconds": (0.25, 0.5)}
BACKLOG_SECONDS = 10.0 if LONGER else LIMITS["queue_seconds"]
HANG_SECONDS = 5.0 if LONGER else 3.0
# Long enough to lose sound. What the sound server keeps for a process that is stopped is more than
# the queue holds; the pipe takes 6 s to fill with lines that are not read.
STOP_SECONDS = float(os.environ.get("SEMANTICAC_STALL_SECONDS", BACKLOG_SECONDS + 3))
STALL_SECONDS = float(os.environ.get("SEMANTICAC_STALL_SECONDS", BACKLOG_SECONDS + 6))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return bundle()


@pytest.fixture(scope="module")
def sounds(model):
    """Two sounds that the bundle recognises."""
    return known_sounds(model, HOP_SECONDS, 2, SOUND_SECONDS)


@pytest.fixture(scope="module")
def hall(tmp_path_factory, model):
    directory = tmp_path_factory.mktemp("hall")
    (directory / "disk").mkdir()
    with (
        tmpfs(directory / "disk", "8m"),
        mosquitto.Mosquitto(directory) as broker,
        mosquitto.Watcher(broker, user=None) as watcher,
        Room(directory, ("vmic", "other")) as room,
        contextlib.closing(
            Hall(directory, model, room, broker, watcher, None if LONGER else LIMITS)
        ) as hall,
    ):
        hall.start()
        yield hall


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
    time.sleep(max(0.0, died + HANG_SECONDS - time.monotonic()))
    playing.stop()
    room.server.cont()
    back = time.monotonic()
    recovered = process.wait_for_word("again;", back).at - back
    process.wait_for_windows()
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, died, back + recovered)
    row(f"sound server hangs for {HANG_SECONDS:g} s (SIGSTOP)", detected, recovered, missing)


def test_the_microphone_is_unplugged_and_another_put_in_its_place(hall, sounds):
    process, room = hall.process, hall.room
    begin(process, room, sounds[0])
    died, died_at = time.monotonic(), time.time()
    room.server.remove_sink("vmic")
    detected = process.wait_for_word("No sound", died).at - died
    assert_cut(process, sounds[0], died_at, died)
    # The server offers the other microphone, which the options do not name.
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
    """Fill the disk with a file."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_corrupt_model_is_refused(hall, sounds, model):
    process, room = hall.process, hall.room
    playing = begin(process, room, sounds[0])
    hall.model.write_bytes(model.read_bytes()[:-1000])
    signalled = process.signal(signal.SIGHUP)
    detected = process.wait_for_word("Not reloaded", signalled).at - signalled
    process.wait_for_windows(4)
    # The refused reload leaves the event and the sequence of windows undisturbed.
    assert process.events("ended", since=signalled) == []
    ends = [line.values["end_seconds"] for line in process.of("window", signalled - 1)]
    assert np.diff(ends) == pytest.approx(HOP_SECONDS)
    shutil.copy(model, hall.model)
    replaced = process.signal(signal.SIGHUP)
    process.wait_for_word("Reloaded", replaced)
    assert process.wait_for_event("ended", sounds[0].label, signalled)["end_reason"] == "stopped"
    process.wait_for_event("started", sounds[0].label, replaced)
    playing.stop()
    assert process.wait_for_event("ended", sounds[0].label, time.monotonic())
    assert process.of("gap", signalled) == []
    row("corrupt model on SIGHUP", detected, "not needed", 0.0, "0, the old one goes on")


def test_the_listener_is_stopped_for_a_while(hall, sounds):
    process, room = hall.process, hall.room
    playing = begin(process, room, sounds[0])
    stopped, stopped_at = process.signal(signal.SIGSTOP), time.time()
    time.sleep(STOP_SECONDS)
    playing.stop()
    resumed, resumed_at = process.signal(signal.SIGCONT), time.time()
    event = process.wait_for_event("ended", sounds[0].label, resumed)
    assert event["end_reason"] == "gap"
    assert stopped_at - HOP_SECONDS <= event["ended_at"] <= resumed_at
    # Sound buffered elsewhere, as in the sound server, arrives late but keeps its own time.
    process.wait(lambda: process.of("window")[-1].values["end_seconds"] > resumed - stopped)
    caught_up = process.wait_for_windows(4)[0].at
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, stopped, caught_up)
    assert 0 < missing < resumed - stopped + 1
    name = f"listener stopped for {STOP_SECONDS:g} s (SIGSTOP)"
    row(name, "when it goes on", caught_up - resumed, missing)


def test_stdout_is_not_read_for_a_while(hall, sounds):
    """The last seconds are buffered; earlier sound is lost."""
    process, room = hall.process, hall.room
    # A pipe of the default size holds minutes of lines.
    fcntl.fcntl(process.stdout_fd, fcntl.F_SETPIPE_SZ, 4096)
    well = time.monotonic()
    with process.not_read():
        time.sleep(STALL_SECONDS - 2.5)
        playing = room.play(sounds[0]).wait()
        time.sleep(max(0.0, well + STALL_SECONDS - time.monotonic()))
    resumed = time.monotonic()
    # The event is reported late, but with the time of its sound.
    event = process.wait_for_event("ended", sounds[0].label, well)
    playing.assert_heard(event, sounds[0], HOP_SECONDS)
    caught_up = process.wait_for_windows(4)[0].at
    assert_heard(process, room, sounds[1])
    missing = assert_keeps_time(process, well, caught_up)
    assert missing < STALL_SECONDS - BACKLOG_SECONDS
    assert not process.find_word("No sound", well)
    name = f"nobody reads the lines for {STALL_SECONDS:g} s"
    row(name, f"when {BACKLOG_SECONDS:g} s wait", caught_up - resumed, missing)


def test_the_listener_is_killed_and_started_again(hall, sounds):
    watcher = hall.watcher
    playing = begin(hall.process, hall.room, sounds[0])
    state = f"{TOPIC}/state/{sounds[0].label.replace(' ', '_')}"
    # Messages that it has not sent would be lost with it.
    event_id = hall.process.events("started")[-1]["id"]
    mosquitto.wait_until(lambda: any(event_id in text for text in watcher.on(f"{TOPIC}/event")))
    mosquitto.wait_until(lambda: watcher.on(state)[-1] == "ON")
    num_states = len(watcher.on(state))
    died = hall.process.signal(signal.SIGKILL)
    mosquitto.wait_until(lambda: watcher.on(f"{TOPIC}/status")[-1] == "offline")
    detected = time.monotonic() - died
    hall.start()
    recovered = hall.process.of("window")[0].at - hall.process.started_at
    # The state that was on is reset to off, until the sound is detected again.
    hall.process.wait_for_event("started", sounds[0].label, died)
    assert watcher.wait(state, num_states + 2)[num_states:] == ["OFF", "ON"]
    playing.stop()
    assert_heard(hall.process, hall.room, sounds[1])
    name = "listener killed (SIGKILL), started again"
    row(name, detected, recovered, "while it was down", "0, the open one has no end")


def test_sigterm_during_a_sound_ends_its_event(hall, sounds):
    """Every event of all faults before has then reached the broker, in order."""
    begin(hall.process, hall.room, sounds[0])
    signalled, signalled_at = time.monotonic(), time.time()
    hall.process.stop()
    ended = time.monotonic() - signalled
    event = hall.process.events("ended")[-1]
    assert event["end_reason"] == "stopped"
    assert event["ended_at"] == pytest.approx(signalled_at, abs=HOP_SECONDS + KEEPS_TIME_SECONDS)
    assert (hall.clips / event["clip"]).exists()
    events = [line.values for process in hall.processes for line in process.of("event")]
    topic = f"{TOPIC}/event"
    hall.watcher.wait(topic, len(events))
    # A message may arrive twice if a broken connection lost its acknowledgement.
    messages = [json.loads(payload) for payload in hall.watcher.on(topic)]
    published = dict.fromkeys((message["id"], message["state"]) for message in messages)
    assert list(published) == [(event["id"], event["state"]) for event in events]
    row("SIGTERM within a sound", ended, "not needed", 0.0, "0, its event ends")
