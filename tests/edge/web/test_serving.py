"""HTTP interface of the web page."""

import base64
import signal
import socket
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from edge import FrontEnd, log_mel
from edge.events.event import Event
from edge.health import Health
from edge.inference.streaming import Classification
from edge.sources.base import Gap
from edge.web import WebSink
from edge.web.page_state import MAX_EVENTS
from tests.edge.visitor import Listener, ask

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

LABELS = ("rain", "dog", "Glocke ♪")
CLASSIFIER = SimpleNamespace(labels=LABELS, front_end=FrontEnd(window_seconds=1.0), hop_seconds=0.5)


@pytest.fixture
def health():
    """Health shown by the server."""
    return Health(0.5)


@pytest.fixture
def clips(tmp_path):
    """A folder with one clip of one second."""
    directory = tmp_path / "clips"
    directory.mkdir()
    soundfile.write(directory / "1-Glocke.wav", np.zeros(32_000, np.float32), 32_000)
    return directory


@pytest.fixture
def web(health, clips):
    """A server on a free port."""
    with closing(WebSink(CLASSIFIER, "bells.tflite", health, port=0, clips_dir=clips)) as sink:
        yield sink


def event(identifier, label="rain", start=1.0, end=None):
    return Event(
        id=identifier,
        label=label,
        start_seconds=start,
        end_seconds=end,
        peak_score=0.9,
        mean_score=0.8,
        level_dbfs=-20.0,
        started_at=1.7e9 + start,
        ended_at=None if end is None else 1.7e9 + end,
        end_reason=None if end is None else "quiet",
    )


def window(end_seconds, scores=(0.1, 0.7, 0.2), gated=False):
    zeros = np.zeros(3, np.float32)
    return Classification(
        start_seconds=end_seconds - 1,
        end_seconds=end_seconds,
        scores=np.array(scores, np.float32),
        embedding=zeros,
        labels=LABELS,
        cosines=zeros,
        level_dbfs=-33.333,
        gated=gated,
    )


def test_the_first_message_describes_the_model(web, health):
    health.set_source(True, "USB microphone")
    with Listener(web.port) as page:
        name, hello = next(iter(page))
    assert name == "hello"
    assert hello["model"] == "bells.tflite"
    assert hello["labels"] == list(LABELS)
    assert (hello["window_seconds"], hello["hop_seconds"]) == (1.0, 0.5)
    assert hello["rows_per_second"] == 25
    assert len(hello["bands_hz"]) == 64
    assert hello["bands_hz"] == sorted(hello["bands_hz"])
    assert abs(hello["now"] - time.time()) < 5
    assert hello["health"]["source"] == "USB microphone"
    assert hello["events"] == []


@pytest.mark.parametrize("chunk_samples", [320, 5000])
def test_the_spectrogram_is_the_log_mel_of_the_sound(web, make_sound, chunk_samples):
    sound = make_sound(96_000)
    rows, last = b"", {}
    with Listener(web.port) as page:
        page.next("hello")
        for start in range(0, len(sound), chunk_samples):
            web.audio(sound[start : start + chunk_samples])
        while last.get("end_seconds", 0) < 2.9:
            last = page.next("frames")
            rows += base64.b64decode(last["rows"])
    pictured = np.frombuffer(rows, np.uint8).reshape(-1, 64) * (140 / 255) - 100
    frames = log_mel(sound, CLASSIFIER.front_end)[: 4 * len(pictured)]
    np.testing.assert_allclose(pictured, frames.reshape(-1, 4, 64).max(axis=1), atol=0.3)
    assert last["end_seconds"] == pytest.approx(len(pictured) / 25)
    assert -30 < last["level_dbfs"] < last["peak_dbfs"] < 3


def test_level_of_a_full_scale_tone(web):
    tone = np.sin(2 * np.pi * 1000 * np.arange(32_000) / 32_000).astype(np.float32)
    with Listener(web.port) as page:
        page.next("hello")
        web.audio(tone)
        frames = page.next("frames")
    assert frames["level_dbfs"] == pytest.approx(-3.0, abs=0.1)
    assert frames["peak_dbfs"] == pytest.approx(0.0, abs=0.1)


def test_invalid_samples_are_shown_as_silence(web, make_sound):
    """The classifier rejects such chunks, but the spectrogram continues."""
    sound = make_sound(32_000)
    sound[5000:5100], sound[6000], sound[7000] = np.nan, np.inf, 1e30
    with Listener(web.port) as page:
        page.next("hello")
        web.audio(sound)
        frames = page.next("frames")
        web.audio(make_sound(32_000))
        assert -30 < page.next("frames")["level_dbfs"] < 0
    assert frames["level_dbfs"] == -120
    assert len(base64.b64decode(frames["rows"])) == 24 * 64


def test_messages_arrive_in_stream_order(web, health):
    with Listener(web.port) as page:
        page.next("hello")
        web.window(window(1.0))
        web.event(event("1"))
        web.window(window(1.5, gated=True))
        web.event(event("1", end=1.5))
        web.gap(Gap(2.5, "the device is gone"))
        messages = [message for _, message in zip(range(5), page, strict=False)]
    assert [name for name, _ in messages] == ["window", "event", "window", "event", "gap"]
    heard, started, quiet, ended, gap = (values for _, values in messages)
    assert heard["top"] == [["dog", 0.7], ["Glocke ♪", 0.2], ["rain", 0.1]]
    assert (heard["end_seconds"], heard["level_dbfs"], heard["gated"]) == (1.0, -33.3, False)
    assert quiet["gated"] is True
    assert (started["state"], started["label"], started["end_seconds"]) == ("started", "rain", None)
    assert (ended["state"], ended["id"], ended["end_seconds"]) == ("ended", "1", 1.5)
    assert (gap["seconds"], gap["reason"]) == (2.5, "the device is gone")


def test_the_spectrogram_continues_at_the_stream_time_after_a_gap(web, make_sound):
    with Listener(web.port) as page:
        page.next("hello")
        web.audio(make_sound(16_000))
        assert page.next("frames")["end_seconds"] == pytest.approx(0.5, abs=0.05)
        web.gap(Gap(10.0, "stalled"))
        web.audio(make_sound(16_000))
        assert page.next("frames")["end_seconds"] == pytest.approx(11.0, abs=0.05)


def test_no_spectrogram_is_computed_without_visitors(web, make_sound, monkeypatch):
    calls = []
    real = web._spectrogram.push
    monkeypatch.setattr(web._spectrogram, "push", lambda chunk: calls.append(1) or real(chunk))
    web.audio(make_sound(96_000))
    assert not calls
    with Listener(web.port) as page:
        page.next("hello")
        web.audio(make_sound(16_000))
        assert page.next("frames")["end_seconds"] == pytest.approx(3.5, abs=0.05)
    wait_until(lambda: (web.audio(make_sound(320)), web._feed.clients == 0)[1])
    calls.clear()
    web.audio(make_sound(320))
    assert not calls


def test_a_late_visitor_gets_the_latest_events(web):
    for number in range(MAX_EVENTS + 10):
        web.event(event(f"{number:04}", start=float(number)))
        web.event(event(f"{number:04}", start=float(number), end=number + 0.5))
    web.event(event("running", "dog", start=500.0))
    with Listener(web.port) as page:
        latest = page.next("hello")["events"]
    assert len(latest) == MAX_EVENTS
    assert [e["id"] for e in latest[:2]] == ["running", f"{MAX_EVENTS + 9:04}"]
    assert [e["state"] for e in latest[:2]] == ["started", "ended"]
    assert ask(web.port, "/api/events").json() == {"events": latest}


def test_open_pages_are_notified_of_another_model(web):
    with Listener(web.port) as page:
        page.next("hello")
        other = SimpleNamespace(labels=("wind",), front_end=FrontEnd(num_mels=32), hop_seconds=2.0)
        web.use_model(other, "wind.tflite")
        hello = page.next("hello")
        assert (hello["labels"], hello["model"]) == (["wind"], "wind.tflite")
        web.audio(np.zeros(32_000, np.float32))
        assert len(base64.b64decode(page.next("frames")["rows"])) % 32 == 0


def test_health_is_sent_at_fixed_intervals(health, monkeypatch):
    """The page takes silence of four intervals of two seconds for a dead connection."""
    from edge.web import app

    assert app.HEALTH_SECONDS == 2.0
    monkeypatch.setattr(app, "HEALTH_SECONDS", 0.2)
    with closing(WebSink(CLASSIFIER, "m", health, port=0)) as sink, Listener(sink.port) as page:
        page.next("hello")
        page.next("health")
        began = time.monotonic()
        health.count_gap(2.0)
        assert page.next("health")["gaps"] == 1
        assert 0.15 < time.monotonic() - began < 1


def test_healthz_reports_readiness_without_details(web, health):
    answer = ask(web.port, "/healthz")
    assert (answer.status, answer.json()) == (
        503,
        {"ready": False, "source_up": False, "muted": False, "window_age_seconds": None},
    )
    health.set_source(True, "private name")
    health.count_window(0.1)
    answer = ask(web.port, "/healthz")
    assert answer.status == 200
    assert answer.json()["ready"] is True
    assert set(answer.json()) == {"ready", "source_up", "muted", "window_age_seconds"}


def test_a_clip_is_served_completely_and_in_ranges(web, clips):
    data = (clips / "1-Glocke.wav").read_bytes()
    whole = ask(web.port, "/clips/1-Glocke.wav")
    assert (whole.status, whole.body) == (200, data)
    assert whole.headers["Content-Type"] == "audio/wav"
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = ask(web.port, "/clips/1-Glocke.wav", range_="bytes=100-199")
    assert (part.status, part.body) == (206, data[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(data)}"
    assert ask(web.port, "/clips/1-Glocke.wav", range_="bytes=-10").body == data[-10:]
    assert ask(web.port, "/clips/1-Glocke.wav", range_=f"bytes={len(data)}-").status == 416


NOT_SERVED = (
    "/clips/",
    "/clips/none.wav",
    "/clips/../secret.wav",
    "/clips/..%2Fsecret.wav",
    "/clips/..%5Csecret.wav",
    "/clips/%2e%2e/secret.wav",
    "/clips/%2Fetc%2Fpasswd",
    "/clips/below/secret.wav",
    "/clips/below%2Fsecret.wav",
    "/clips/1-Glocke.wav%00.txt",
    "/clips/.hidden.wav",
    "/clips/notes.txt",
    "/clips/link.wav",
    "/clips/below",
    "/clips/folder.wav",
    "/static/../app.py",
    "/static/..%2Fapp.py",
    "/static/none.js",
    "/none",
)


def test_other_paths_are_not_served(web, clips):
    (clips.parent / "secret.wav").write_bytes(b"secret")
    (clips / "link.wav").symlink_to(clips.parent / "secret.wav")
    (clips / "below").mkdir()
    (clips / "folder.wav").mkdir()
    for name in ("below/secret.wav", ".hidden.wav", "notes.txt"):
        (clips / name).write_bytes(b"secret")
    answers = {path: ask(web.port, path) for path in NOT_SERVED}
    assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(
        NOT_SERVED, 404
    )
    assert not any(b"secret" in answer.body for answer in answers.values())


def test_without_a_clips_folder_there_are_no_clips(health):
    with closing(WebSink(CLASSIFIER, "m", health, port=0)) as sink:
        assert ask(sink.port, "/clips/1-Glocke.wav").status == 404


def test_the_page_and_its_files_have_their_media_types(web):
    page = ask(web.port, "/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert ask(web.port, "/static/page.js").headers["Content-Type"].startswith("text/javascript")
    assert ask(web.port, "/static/page.css").headers["Content-Type"].startswith("text/css")
    assert ask(web.port, "/static/icon.svg").headers["Content-Type"] == "image/svg+xml"


def test_head_responses_have_no_body(web):
    for path in ("/", "/events", "/api/events", "/clips/1-Glocke.wav", "/metrics"):
        answer = ask(web.port, path, "HEAD")
        assert (path, answer.status, answer.body) == (path, 200, b"")


def test_closing_ends_streams_and_frees_the_port(health):
    sink = WebSink(CLASSIFIER, "m", health, port=0)
    with Listener(sink.port) as page:
        page.next("hello")
        began = time.monotonic()
        sink.close()
        assert list(page) == []
        assert time.monotonic() - began < 3
    with pytest.raises(ConnectionRefusedError):
        ask(sink.port, "/healthz")
    with closing(WebSink(CLASSIFIER, "m", health, port=sink.port)) as again:
        assert again.port == sink.port
        assert ask(again.port, "/healthz").status == 503


def test_signals_stay_with_the_listener(health):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with closing(WebSink(CLASSIFIER, "m", health, port=0)) as sink:
        assert ask(sink.port, "/healthz").status == 503
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stopped_server_makes_the_sink_raise(web):
    web.window(window(1.0))
    web._server._server.should_exit = True
    web._server._thread.join(10)
    with pytest.raises(RuntimeError, match="The web server has stopped"):
        web.window(window(2.0))


def test_a_port_in_use_is_one_clear_error(health):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot be served on 127.0.0.1 port {port}: Address al"):
            WebSink(CLASSIFIER, "m", health, port=port)


@pytest.mark.parametrize("package", ["prometheus_client", "starlette", "uvicorn"])
def test_a_missing_package_is_one_clear_error(health, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}.*semanticac-keras\[web\]"):
        WebSink(CLASSIFIER, "m", health, port=0)


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
