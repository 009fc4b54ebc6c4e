"""Streams and files of a real web server, read with a real ffmpeg."""

import logging
import os
import shutil
import signal
import socket
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
from edge.sources.url import UrlSource, without_secrets
from tests.edge.listening import Listening

RATE = 32_000

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="needs ffmpeg (apt-get install ffmpeg)"
)

# Serves the files of a directory and, under /live, an endless tone in real time. /live?burst
# begins with a burst, as radio stations do: ffmpeg reads 2 s to detect the format.
SERVER = """
import http.server, math, struct, sys, time

RATE = 16_000
TONE = [round(8192 * math.sin(2 * math.pi * 440 * n / RATE)) for n in range(RATE // 10)]
BLOCK = struct.pack(f">{len(TONE)}h", *TONE)

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path != "/live":
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        # An AU file of unknown length; encoding 3 is 16-bit PCM.
        self.wfile.write(struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFF, 3, RATE, 1))
        start = time.monotonic()
        burst = 25 if query.startswith("burst") else 0
        blocks = 40 if query == "burst&end" else 10**9
        for block in range(blocks):
            self.wfile.write(BLOCK)
            time.sleep(max(0, start + (block + 1 - burst) / 10 - time.monotonic()))

    def log_message(self, *_):
        pass

address, directory = ("127.0.0.1", int(sys.argv[1])), sys.argv[2]
handler = lambda *arguments: Handler(*arguments, directory=directory)
http.server.ThreadingHTTPServer(address, handler).serve_forever()
"""


class WebServer:
    """A web server in a separate process that can be killed, stopped and restarted."""

    def __init__(self, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._directory = directory
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.port), str(self._directory)],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def _answers(self):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def server(tmp_path):
    server = WebServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def health():
    return Health()


@pytest.fixture
def listen(server, health):
    """`listen(path, **options)`: to a path of the server."""

    def listen(path, **options):
        url = f"http://user:s3cret@127.0.0.1:{server.port}/{path}"
        options = {"stall_seconds": 1.0, "retry_seconds": (0.25, 0.5)} | options
        return Listening(UrlSource(url, RATE, health, **options), RATE)

    return listen


@pytest.fixture
def messages(caplog):
    """Messages logged so far."""
    caplog.set_level(logging.INFO, "semanticac_edge")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def recording(tmp_path, make_sound):
    """A stereo FLAC file of 3 s at 44.1 kHz, and its samples at `RATE`."""
    sound = np.stack([make_sound(3 * 44_100, seed) for seed in (0, 1)], axis=1)
    soundfile.write(tmp_path / "a.flac", sound, 44_100)
    return soxr.resample(sound.mean(axis=1), 44_100, RATE, quality="HQ")


def assert_keeps_time(before, after):
    """The stream has grown by the elapsed time."""
    assert after[1] - before[1] == pytest.approx(after[0] - before[0], abs=0.2)


def is_playing(server):
    """Whether an ffmpeg process reads from the server."""
    address = f"127.0.0.1:{server.port}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"ffmpeg" in command and address in command:
            return True
    return False


def assert_same_sound(samples, expected):
    """Compare below 14 kHz, the model's upper limit; above it, ffmpeg's resampler differs."""
    assert samples.size == pytest.approx(expected.size, abs=2)
    size = min(samples.size, expected.size)
    in_band = np.fft.rfftfreq(size, 1 / RATE) < 14_000
    ours, theirs = (np.fft.rfft(sound[:size])[in_band] for sound in (samples, expected))
    assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)


@needs_ffmpeg
def test_a_file_is_read_completely_and_ends(recording, listen, messages):
    with listen("a.flac?token=abc") as heard:
        heard.wait_for_end()
    assert heard.failure is None
    assert heard.gaps == []
    assert_same_sound(heard.samples, recording)


@needs_ffmpeg
def test_a_file_waits_for_a_slow_listener(recording, listen):
    with listen("a.flac", queue_seconds=0.5) as heard:
        heard.stall.clear()
        time.sleep(0.6)
        heard.stall.set()
        heard.wait_for_end()
    assert heard.gaps == []
    assert_same_sound(heard.samples, recording)


@needs_ffmpeg
@pytest.mark.parametrize("scheme", ["", "file:"])
def test_a_local_file_is_read_completely_and_ends(recording, tmp_path, scheme):
    with Listening(UrlSource(f"{scheme}{tmp_path}/a.flac", RATE), RATE) as heard:
        heard.wait_for_end()
    assert heard.failure is None
    assert_same_sound(heard.samples, recording)


@pytest.mark.slow
@needs_ffmpeg
def test_a_live_stream_reconnects_to_a_restarted_server(server, listen, health, messages):
    with listen("live?token=abc") as heard:
        before = heard.wait_for_sound()
        name = f"http://127.0.0.1:{server.port}/live"
        assert health.source == name
        server.kill()
        heard.wait(lambda: heard.gaps, 2)
        assert not health.source_up
        heard.wait(lambda: "Connection refused" in health.source)
        server.start()
        after = heard.wait_for_sound(0.6)
        assert_keeps_time(before, after)
        assert health.reconnects == 1
        assert health.source_up
    assert heard.longest_pause_seconds <= 0.5
    first, failed, recovered = messages()
    assert first == f"Listening to {name}."
    assert failed == f"No sound from {name}: Input/output error. Trying again until there is."
    assert recovered.startswith(f"Listening to {name} again; ")
    # The tone's level, within 0.1 dB: 16 bits, a quarter of full scale.
    level = np.sqrt(np.mean(heard.samples[-16_000:] ** 2))
    assert level == pytest.approx(0.25 / np.sqrt(2), rel=0.012)


@pytest.mark.slow
@needs_ffmpeg
def test_a_live_stream_resumes_with_a_hanging_server(server, listen, health, messages):
    with listen("live") as heard:
        before = heard.wait_for_sound()
        server.signal(signal.SIGSTOP)
        heard.wait(lambda: heard.gaps, 3)
        assert health.source.endswith("/live: no data for 1 s")
        server.signal(signal.SIGCONT)
        after = heard.wait_for_sound()
        assert_keeps_time(before, after)
    assert sum("Trying again" in message for message in messages()) == 1


@pytest.mark.slow
@needs_ffmpeg
def test_a_live_stream_that_ends_is_reconnected(listen, health):
    with listen("live?burst&end") as heard:
        heard.wait(lambda: health.reconnects == 1)
        assert heard.samples.size > 3 * RATE


@needs_ffmpeg
def test_a_missing_url_is_retried_and_messages_contain_no_secrets(server, listen, health, messages):
    with listen("nothing.wav?token=abc") as heard:
        heard.wait(lambda: messages(), 5)
        assert "404" in health.source
        heard.wait(lambda: len(heard.items) > 5)
    (message,) = messages()
    assert message.startswith(f"No sound from http://127.0.0.1:{server.port}/nothing.wav: ")
    assert "404" in message
    for secret in ("user", "s3cret", "token", "abc"):
        assert secret not in message + health.source


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("state", ["hanging", "down"])
def test_close_is_quick_and_ends_ffmpeg(server, listen, health, state):
    options = {"stall_seconds": 60.0, "retry_seconds": (60.0, 60.0)}
    with listen("live?burst", **options) as heard:
        heard.wait_for_sound()
        if state == "hanging":
            server.signal(signal.SIGSTOP)
        if state == "down":
            server.kill()
            heard.wait(lambda: heard.gaps)
        started = time.monotonic()
        heard.close()
        heard.wait_for_end(1)
        assert time.monotonic() - started < 0.5
    assert not is_playing(server)


def test_missing_ffmpeg_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(SourceError, match="apt-get install ffmpeg"):
        UrlSource("http://127.0.0.1/", RATE)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://cam:pass@10.0.0.2:554/h264", "rtsp://10.0.0.2:554/h264"),
        ("rtsp://cam:p@ss/w:rd@10.0.0.2/h264", "rtsp://10.0.0.2/h264"),
        ("http://host/a?token=x&user=y", "http://host/a"),
        ("http://cam:pass@host/a?b=c: Connection refused", "http://host/a: Connection refused"),
        (
            "http://host/a: Server returned 404 Not Found",
            "http://host/a: Server returned 404 Not Found",
        ),
        ("/home/me/a.wav", "/home/me/a.wav"),
    ],
)
def test_secrets_are_removed_from_urls(text, clean):
    assert without_secrets(text) == clean
