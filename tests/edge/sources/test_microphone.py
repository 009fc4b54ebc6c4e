"""Microphone capture from a real sound server, with failing servers, devices and processes.

Lengths are checked against the monotonic clock: between two moments at which sound arrives, the
stream's samples and gaps must be as long as the elapsed time, within 0.2 s.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from edge.health import Health
from edge.sources import SourceError
from edge.sources.microphone import MicrophoneSource, list_devices
from edge.sources.recorder import CaptureError, match
from tests.edge.listening import Listening
from tests.edge.sound_server import SoundServer, missing_programs

RATE = 32_000


def needs_sound_server(test):
    """Marks a test that starts a sound server, and takes seconds of real time."""
    missing = missing_programs()
    skip = pytest.mark.skipif(missing is not None, reason=missing or "")
    return pytest.mark.slow(skip(test))


@pytest.fixture
def server(monkeypatch):
    """A running server with two microphones, `vmic` and `other`; `vmic` is the default."""
    server = SoundServer(("vmic", "other"))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def health():
    return Health()


@pytest.fixture
def listen(health):
    """`listen(device, **options)`: to a microphone with short timeouts and pauses."""

    def listen(device=None, **options):
        options = {"stall_seconds": 1.0, "retry_seconds": (0.25, 0.5)} | options
        return Listening(MicrophoneSource(RATE, device, health, **options), RATE)

    return listen


@pytest.fixture
def messages(caplog):
    """Messages logged so far."""
    caplog.set_level(logging.INFO, "semanticac_edge")
    return lambda: [record.getMessage() for record in caplog.records]


def recorders(server):
    """Ids of the processes that capture from this server, and of their children."""
    address = server.environment["PULSE_SERVER"].encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if address in (process / "environ").read_bytes() and (
                b"recorder.py" in command or b"subscribe" in command
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_until(condition, timeout_seconds=5.0):
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_keeps_time(before, after):
    """The stream has grown by the elapsed time."""
    assert after[1] - before[1] == pytest.approx(after[0] - before[0], abs=0.2)


def chirp(tmp_path, times=1):
    """A WAV file of chirps, two per second, and the samples of one chirp at `RATE`."""
    seconds = np.arange(17_640) / 44_100
    sound = 0.5 * np.sin(2 * np.pi * (300 * seconds + 2000 * seconds**2)).astype(np.float32)
    path = tmp_path / "chirp.wav"
    pause = np.zeros(22_050 - sound.size, np.float32)
    sounds = np.concatenate([sound, *[pause, sound] * (times - 1)])
    soundfile.write(path, sounds, 44_100, subtype="PCM_16")
    return path, soxr.resample(sound, 44_100, RATE, quality="HQ")


def find(sound, samples, times=1):
    """The places of a sound in the samples, in order: (offset, correlation, gain)."""
    places = []
    correlation = np.abs(np.correlate(samples, sound, "valid"))
    for _ in range(times):
        at = int(correlation.argmax())
        part = samples[at : at + sound.size]
        gain = np.linalg.norm(part) / np.linalg.norm(sound)
        places.append((at, np.dot(part, sound) / np.dot(sound, sound) / gain, gain))
        correlation[max(0, at - sound.size) : at + sound.size] = 0
    return sorted(places)


@needs_sound_server
def test_played_sound_is_captured(server, listen, health, messages, tmp_path):
    path, sound = chirp(tmp_path, times=2)
    with listen() as heard:
        before = heard.wait_for_sound()
        assert server.play(path).wait() == 0
        after = heard.wait_for_sound(0.5)
        samples, gaps = heard.samples, heard.gaps
        assert health.source_up
        wait_until(lambda: health.source == "the default microphone, vmic.monitor")
    assert gaps == []
    assert_keeps_time(before, after)
    assert heard.longest_pause_seconds <= 0.5
    (first, *_), (second, *_) = places = find(sound, samples, times=2)
    for _, cosine, gain in places:
        assert cosine > 0.97  # the rest is a delay of a fraction of a sample
        assert gain == pytest.approx(1, abs=0.03)
    assert second - first == pytest.approx(RATE / 2, abs=1)
    assert messages()[-1] == "Listening to the default microphone, vmic.monitor."
    assert recorders(server) == []


@needs_sound_server
def test_a_restarted_server_is_captured_again(server, listen, health, messages, tmp_path):
    path, sound = chirp(tmp_path)
    with listen() as heard:
        before = heard.wait_for_sound()
        server.kill()
        heard.wait(lambda: heard.gaps, 2)
        assert not health.source_up
        assert "capture failed" in health.source
        wait_until(lambda: "there is no sound device" in health.source)
        server.start()
        after = heard.wait_for_sound()
        assert_keeps_time(before, after)
        assert health.source_up
        assert health.reconnects == 1
        server.play(path).wait()
        heard.wait_for_sound(0.5)
        assert find(sound, heard.samples)[0][1] > 0.97
    assert heard.longest_pause_seconds <= 0.5
    failed, recovered = messages()[-2:]
    assert failed.startswith("No sound from the default microphone: the capture failed")
    assert failed.endswith("Trying again until there is.")
    missing = float(re.fullmatch(r"Listening to .* again; (\S+) s are missing\.", recovered)[1])
    assert missing == pytest.approx(sum(gap.seconds for gap in heard.gaps), abs=0.1)
    assert sum("Trying again" in message for message in messages()) == 1


@needs_sound_server
def test_a_hanging_server_is_captured_again_when_it_resumes(server, listen, health, messages):
    with listen() as heard:
        before = heard.wait_for_sound()
        server.stop()
        stopped_at = time.monotonic()
        heard.wait(lambda: heard.gaps, 3)
        assert health.source == "no sound from the default microphone: no data for 1 s"
        assert time.monotonic() - stopped_at < 2
        heard.wait(lambda: time.monotonic() - stopped_at > 1.5)
        server.cont()
        after = heard.wait_for_sound()
        assert_keeps_time(before, after)
        assert sum(gap.seconds for gap in heard.gaps) == pytest.approx(2, abs=1)
        assert health.reconnects == 1
    assert heard.longest_pause_seconds <= 0.5
    assert sum("Trying again" in message for message in messages()) == 1


@needs_sound_server
def test_a_brief_hang_loses_no_time(server, listen, health):
    with listen() as heard:
        before = heard.wait_for_sound()
        server.stop()
        time.sleep(0.6)
        server.cont()
        after = heard.wait_for_sound(1.5)
        assert_keeps_time(before, after)
        assert health.reconnects == 0


@needs_sound_server
@pytest.mark.parametrize("device", ["other.monitor", "bedroom"])
def test_a_named_source_is_waited_for_and_not_replaced(server, listen, messages, tmp_path, device):
    path, sound = chirp(tmp_path)
    with listen(device) as heard:
        before = heard.wait_for_sound()
        server.remove_sink("other")
        heard.wait(lambda: heard.gaps, 2)
        assert heard.gaps[0].reason == (
            "other.monitor is gone, and the sound server replaced it by vmic.monitor"
        )
        samples = heard.samples.size
        server.play(path).wait()
        assert heard.samples.size == samples
        server.add_sink("other")
        after = heard.wait_for_sound()
        assert_keeps_time(before, after)
        server.play(path, "other").wait()
        heard.wait_for_sound(0.5)
        assert find(sound, heard.samples)[0][1] > 0.97
    assert messages()[-1].startswith(f"Listening to microphone {device!r} again; ")


@needs_sound_server
def test_the_default_source_is_followed(server, listen, health, messages, tmp_path):
    path, sound = chirp(tmp_path)
    with listen() as heard:
        before = heard.wait_for_sound()
        server.set_default("other")
        server.remove_sink("vmic")
        wait_until(lambda: health.source == "the default microphone, other.monitor")
        server.play(path, "other").wait()
        after = heard.wait_for_sound(0.5)
        assert_keeps_time(before, after)
        assert find(sound, heard.samples)[0][1] > 0.97
        assert health.reconnects == 0
    assert messages()[-1] == "Listening to the default microphone, other.monitor."


@needs_sound_server
def test_a_server_that_starts_later_is_waited_for(server, listen, health, messages):
    server.kill()
    with listen() as heard:
        heard.wait(lambda: messages(), 5)
        assert not health.source_up
        server.start()
        at, stream_seconds = heard.wait_for_sound()
        assert stream_seconds == pytest.approx(at - heard.started_at, abs=0.2)
    assert heard.longest_pause_seconds <= 0.5
    absent, recovered = messages()[:2]
    assert absent == (
        "No sound from the default microphone: there is no sound device to capture from, and no "
        "sound server. Trying again until there is."
    )
    assert recovered.startswith("Listening to the default microphone again; ")


@needs_sound_server
def test_a_stalled_listener_loses_the_oldest_sound(server, listen):
    with listen(queue_seconds=0.5) as heard:
        before = heard.wait_for_sound(0.8)
        heard.stall.clear()
        time.sleep(1.5)
        heard.stall.set()
        heard.wait(lambda: heard.gaps, 2)
        after = heard.wait_for_sound(0.8)
    assert_keeps_time(before, after)
    assert {gap.reason for gap in heard.gaps} == {"the listener fell behind"}
    assert sum(gap.seconds for gap in heard.gaps) == pytest.approx(1, abs=0.4)


PROCESS = """
import json, sys, time
from edge.sources import Gap
from edge.sources.microphone import MicrophoneSource

samples = gap_seconds = 0
for item in MicrophoneSource(32_000, stall_seconds=1.0):
    if isinstance(item, Gap):
        gap_seconds += item.seconds
    elif item.size:
        samples += item.size
        print(json.dumps([time.monotonic(), samples / 32_000 + gap_seconds]), flush=True)
"""


@pytest.fixture
def process(server):
    """A separate process that listens and prints the clock's time and the stream's time."""
    process = subprocess.Popen([sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def read_position(process, later_than):
    """The first position with both times later than those of `later_than`."""
    for line in process.stdout:
        position = json.loads(line)
        if position[0] > later_than[0] and position[1] > later_than[1]:
            return position
    raise AssertionError("the process ended")


@needs_sound_server
def test_a_stopped_and_resumed_process_keeps_time(server, process):
    position = read_position(process, (0, 0.5))
    for stopped in ([process.pid], [process.pid, *recorders(server)]):
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        before, position = position, read_position(process, (time.monotonic() + 1, 0))
        assert_keeps_time(before, position)
    assert process.poll() is None


@needs_sound_server
def test_no_process_outlives_a_killed_listener(server, process):
    read_position(process, (0, 0.3))
    wait_until(lambda: len(recorders(server)) == 2)
    server.stop()
    process.kill()
    wait_until(lambda: recorders(server) == [])


@needs_sound_server
@pytest.mark.parametrize("state", ["starting", "up", "hanging", "down"])
def test_close_is_quick(server, listen, health, state):
    source = MicrophoneSource(RATE, health=health, stall_seconds=60.0, retry_seconds=(60.0, 60.0))
    with Listening(source, RATE) as heard:
        if state != "starting":
            heard.wait_for_sound()
        if state == "hanging":
            server.stop()
            time.sleep(0.3)
        if state == "down":
            server.kill()
            wait_until(lambda: not health.source_up)
        started = time.monotonic()
        source.close()
        heard.wait_for_end(1)
        assert time.monotonic() - started < 0.5
    assert heard.failure is None
    assert recorders(server) == []


@needs_sound_server
def test_devices_are_listed_and_found(server, listen, health):
    devices = list_devices()
    names = [device.name for device in devices]
    assert {"pulse", "default", "vmic.monitor", "other.monitor"} <= set(names)
    assert [device.name for device in devices if device.is_default] == ["default"]
    other = devices[names.index("other.monitor")]
    assert (other.index, other.channels, other.rate_hz) == (None, 1, 44_100)
    for device in (str(devices[0].index), devices[0].name.upper()):
        with listen(device) as heard:
            heard.wait_for_sound()


@needs_sound_server
def test_a_missing_device_is_waited_for(server, listen, messages):
    for device in ("no such microphone", 99):
        with listen(device) as heard:
            heard.wait(lambda: messages(), 5)
            heard.wait(lambda: len(heard.items) > 1)
        assert f"microphone {str(device)!r}: there is no sound device" in messages()[-1]


# Replaces sounddevice: devices with 4 channels, with their level in their name, listed in a file.
DEVICES = """
import array, json, os, time

class PortAudioError(Exception):
    pass

class default:
    device, hostapi = (0, 0), 0

def query_hostapis():
    return [{"name": "test"}]

def query_devices():
    with open(os.environ["DEVICES"]) as names:
        return [
            {"name": name, "index": index, "hostapi": 0, "max_input_channels": 4,
             "default_samplerate": 16000.0}
            for index, name in enumerate(json.load(names))
        ]

class RawInputStream:
    def __init__(self, samplerate, device, channels, dtype, latency):
        self.name = query_devices()[device]["name"]
        assert (samplerate, channels, dtype) == (16000, 4, "float32")

    def start(self):
        self.next = time.monotonic()

    def read(self, frames):
        if self.name not in [device["name"] for device in query_devices()]:
            raise PortAudioError("unplugged")
        self.next += frames / 16000
        time.sleep(max(0, self.next - time.monotonic()))
        level = float(self.name.split()[1])
        return array.array("f", [0.0, level, 2 * level, 5 * level] * frames).tobytes(), False
"""


def test_an_index_stays_with_its_device_and_channels_are_averaged(listen, monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text(DEVICES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DEVICES", str(tmp_path / "devices.json"))

    def plug(*names):
        (tmp_path / "new.json").write_text(json.dumps(names))
        (tmp_path / "new.json").rename(tmp_path / "devices.json")

    plug("level 0.1 (hw:0,0)", "level 0.2 (hw:1,0)")
    with listen(1) as heard:
        before = heard.wait_for_sound()
        plug("level 0.1 (hw:0,0)")
        heard.wait(lambda: heard.gaps, 2)
        plug("level 0.3 (hw:0,0)", "level 0.1 (hw:1,0)", "level 0.2 (hw:2,0)")
        after = heard.wait_for_sound()
    assert_keeps_time(before, after)
    # The resampler rings at both ends of a stream; the median does not see that.
    assert np.median(heard.samples) == pytest.approx(0.4, abs=1e-3)
    assert heard.samples.max() < 0.5
    assert "unplugged" in heard.gaps[0].reason


NAMES = [
    "USB PnP Sound Device: Audio (hw:1,0)",
    "USB PnP Sound Device: Audio (hw:2,0)",
    "ReSpeaker 4 Mic Array (UAC1.0): USB Audio (hw:3,0)",
    "alsa_input.usb-C-Media_Tablet-00.analog-stereo",
    "alsa_output.usb-C-Media_Tablet-00.analog-stereo.monitor",
    "pulse",
    "pulse jack",
]


@pytest.mark.parametrize(
    ("requested", "name"),
    [
        ("usb pnp sound device: audio (hw:2,0)", NAMES[1]),
        ("respeaker", NAMES[2]),
        ("ReSpeaker 4 Mic Array (UAC1.0): USB Audio (hw:1,0)", NAMES[2]),
        ("C-Media_Tablet", NAMES[3]),
        (NAMES[4], NAMES[4]),
        ("pulse", "pulse"),
        ("Røde", None),
    ],
)
def test_names_match_one_device(requested, name):
    assert match(requested, NAMES) == name


@pytest.mark.parametrize("requested", ["USB PnP", "USB PnP Sound Device: Audio (hw:5,0)", "usb"])
def test_ambiguous_names_are_refused(requested):
    with pytest.raises(CaptureError, match=r"may be USB PnP .* or .*give the complete name"):
        match(requested, NAMES)


def test_missing_sounddevice_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for use in (list_devices, lambda: MicrophoneSource(RATE)):
        with pytest.raises(ImportError, match="pip install sounddevice"):
            use()


def test_missing_portaudio_is_one_clear_error(monkeypatch, tmp_path):
    pytest.importorskip("_sounddevice")
    # The error of sounddevice when the library is missing.
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"PortAudio library not found.*apt-get install"):
        list_devices()
    with pytest.raises(SourceError, match=r"PortAudio library not found.*apt-get install"):
        list(MicrophoneSource(RATE))
