"""Sounds played to a microphone reach every output, in one run of the command.

The microphone is the null sink of a real sound server, the broker is a real mosquitto with TLS,
users and an access list, and the page opens in a real Chromium. The hop is the default, one second.
The packaged model classifies clips of ESC-10, on which it was trained: the test is about the way of
a sound, not about accuracy. Without those clips, the demo's model classifies sounds of the demo.
"""

import json
import socket
import time
from datetime import datetime
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from edge.config.settings import DecisionSettings
from tests.edge import chromium, mosquitto
from tests.edge.rig import Process
from tests.edge.room import Room, require_sound_server
from tests.edge.sounds import (
    GATE_DBFS,
    KNOWN_WITHIN_HOPS,
    bundle,
    known_sounds,
    programme,
    shipped_sounds,
)

pytest.importorskip("paho.mqtt")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

HOP_SECONDS = 1.0
NUM_SOUNDS = 2
# No window and no moving average over windows covers two sounds.
PAUSE_SECONDS = 10.0
# What is played of the pauses before the first sound and after the last: around it, the microphone
# hears silence too.
EDGE_SECONDS = 1.0
TOPIC = "semanticac/hall"
ROWS = """[...document.querySelectorAll('#events li:not(.running)')].reverse().map(row => ({
    label: row.querySelector('.name').textContent,
    started: row.querySelector('time').dateTime,
    length: row.querySelector('.length').textContent,
    has_clip: row.querySelector('button') !== null,
}))"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Results of one listener run with all outputs, while a recording of the sounds is played."""
    mosquitto.require()
    chromium.require()
    require_sound_server()
    directory = tmp_path_factory.mktemp("hall")
    sounds, model = shipped_sounds(HOP_SECONDS, NUM_SOUNDS), None
    if sounds is None:
        model = bundle()
        smoothing = DecisionSettings.smoothing
        sounds = known_sounds(model, HOP_SECONDS, NUM_SOUNDS, smoothing_seconds=smoothing)
    recording, clips = directory / "recording.wav", directory / "clips"
    starts = programme(sounds, PAUSE_SECONDS, recording)
    played, skipped = directory / "played.wav", PAUSE_SECONDS - EDGE_SECONDS
    samples, rate_hz = soundfile.read(recording, dtype="int16")
    edge = round(skipped * rate_hz)
    soundfile.write(played, samples[edge : len(samples) - edge], rate_hz, subtype="PCM_16")
    seconds = soundfile.info(played).duration
    (directory / "password").write_text(mosquitto.PASSWORD)
    port = free_port()
    users = {
        mosquitto.USER: mosquitto.PASSWORD,
        mosquitto.WATCHER: mosquitto.WATCHER_PASSWORD,
    }
    authority = mosquitto.Authority(directory)
    with (
        mosquitto.Mosquitto(directory, authority, users, mosquitto.ACCESS) as broker,
        mosquitto.Watcher(broker) as watcher,
        chromium.Chromium(niceness=10) as browser,
        Room(directory) as room,
        Process(
            *("--mic", "--gate-dbfs", GATE_DBFS, "--clips", clips, "--serve", port),
            *("--mqtt", broker.url(), "--mqtt-ca", authority.ca_file, "--mqtt-topic", TOPIC),
            *("--mqtt-password-file", directory / "password"),
            model=model,
            environment=room.server.environment,
        ) as process,
    ):
        process.prioritise()
        process.wait(lambda: process.of("window"))
        page = browser.open(f"http://127.0.0.1:{port}/")
        page.wait_for("document.getElementById('status').dataset.state === 'live'")
        playing = room.play_file(played, seconds)
        began = time.monotonic()
        playing.wait()
        process.wait(lambda: len(process.events("ended")) >= len(sounds))
        page.wait_for(f"document.querySelectorAll('#events button').length >= {len(sounds)}")
        rows, complaints = page.evaluate(ROWS), list(page.complaints)
        heard_all = time.monotonic()
        lags = process.lag(0, began), process.lag(began, heard_all)
        process.stop()
        watcher.wait(f"{TOPIC}/event", 2 * len(sounds))
        yield SimpleNamespace(
            model=model,
            sounds=sounds,
            recording=recording,
            skipped=skipped,
            starts=[start - skipped for start in starts],
            playing=playing,
            process=process,
            lags=lags,
            rows=rows,
            complaints=complaints,
            watcher=watcher,
            clips=clips,
        )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_lines_have_the_sounds_at_their_times(heard):
    events = heard.process.events("ended")
    assert [event["label"] for event in events] == [sound.label for sound in heard.sounds]
    for event, sound, start in zip(events, heard.sounds, heard.starts, strict=True):
        heard.playing.assert_heard(event, sound, HOP_SECONDS, start)
        assert event["end_reason"] == "quiet"
        assert event["level_dbfs"] > GATE_DBFS
    assert heard.process.of("gap") == []


def test_the_stream_keeps_time(heard):
    before, after = heard.lags
    assert after == pytest.approx(before, abs=0.2)
    ends = [line.values["end_seconds"] for line in heard.process.of("window")]
    # The last window is the rest of the stream at the stop.
    for one, next_one in pairwise(ends[:-1]):
        assert next_one - one == pytest.approx(HOP_SECONDS)


def test_the_broker_received_the_same_events(heard):
    messages = [json.loads(payload) for payload in heard.watcher.on(f"{TOPIC}/event")]
    for state in ("started", "ended"):
        events = heard.process.events(state)
        published = [message for message in messages if message["state"] == state]
        assert [without_link(message) for message in published] == events
        assert [message["event_type"] for message in published] == [
            event["label"] for event in events
        ]
    for sound in heard.sounds:
        states = heard.watcher.on(f"{TOPIC}/state/{sound.label.replace(' ', '_')}")
        assert states == ["OFF", "ON", "OFF"]
    assert heard.watcher.on(f"{TOPIC}/status") == ["online", "offline"]


def without_link(message):
    return {key: message[key] for key in message if key not in ("event_type", "clip_url")}


def test_the_page_shows_the_same_events(heard):
    events = heard.process.events("ended")
    assert [row["label"] for row in heard.rows] == [event["label"] for event in events]
    for row, event in zip(heard.rows, events, strict=True):
        started = datetime.fromisoformat(row["started"]).timestamp()
        assert started == pytest.approx(event["started_at"], abs=0.002)
        assert float(row["length"].removesuffix(" s")) == pytest.approx(
            event["duration_seconds"], abs=0.06
        )
        assert row["has_clip"]
    assert heard.complaints == []


def test_each_event_has_a_clip(heard):
    for event, sound in zip(heard.process.events("ended"), heard.sounds, strict=True):
        samples, rate_hz = soundfile.read(heard.clips / event["clip"])
        # A clip adds a second before and after the event.
        assert len(samples) / rate_hz == pytest.approx(event["duration_seconds"] + 2, abs=0.01)
        # Around the sound there is only silence.
        assert energy(samples, rate_hz) == pytest.approx(energy(sound.samples, 44_100), rel=0.1)


def energy(samples, rate_hz):
    return np.square(samples, dtype=np.float64).sum() / rate_hz


def test_a_file_gives_the_same_events(heard):
    """The recording that was played gives the events that the microphone gave."""
    with Process(
        "--file", heard.recording, "--gate-dbfs", GATE_DBFS, "--events-only", model=heard.model
    ) as process:
        assert process.wait_for_end() == 0
        of_file = process.events("ended")
    of_microphone = heard.process.events("ended")
    assert [event["label"] for event in of_file] == [event["label"] for event in of_microphone]
    late = heard.playing.latest - heard.playing.earliest
    # Windows begin at different points of the sound, which shifts the times in both streams.
    tolerance = 2 * KNOWN_WITHIN_HOPS * HOP_SECONDS
    for recorded, live in zip(of_file, of_microphone, strict=True):
        for name, moment in (("start", "started_at"), ("end", "ended_at")):
            expected = heard.playing.earliest + recorded[f"{name}_seconds"] - heard.skipped
            difference = live[moment] - expected
            assert -tolerance <= difference <= tolerance + late
