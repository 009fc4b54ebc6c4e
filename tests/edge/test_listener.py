"""The loop delivers everything once and in order, despite failures around it."""

import os
import shutil
import signal
import socket
import time
from dataclasses import replace

import numpy as np
import pytest

from edge import StreamingClassifier
from edge.events.detector import Detector, Policy
from edge.health import Health
from edge.listener import Listener, Outputs, Pipeline
from edge.sd_notify import Notifier
from edge.signals import Requests
from edge.sinks.base import Sink
from edge.sources.base import Gap, SourceError
from edge.sources.stream_clock import StreamClock

RATE = 32_000
# At this threshold the tiny model detects events in any sound.
EAGER = Policy(threshold=0.05, refractory_seconds=0.0)


class Script:
    """A source that yields its items; it raises exceptions and calls functions among them."""

    def __init__(self, *items):
        self._items = items
        self.closed = False

    def __iter__(self):
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            if callable(item):
                item()
            else:
                yield item

    def close(self):
        self.closed = True


class Recorder(Sink):
    """A sink that records its calls."""

    name = "recorder"

    def __init__(self):
        self.calls = []
        self.closed = 0

    def use_model(self, classifier, model_name):
        self.calls.append(("model", model_name))

    def audio(self, chunk):
        self.calls.append(("audio", chunk))

    def gap(self, gap):
        self.calls.append(("gap", gap))

    def window(self, window):
        self.calls.append(("window", window))

    def event(self, event):
        self.calls.append(("event", event))

    def close(self):
        self.closed += 1

    def of(self, kind):
        return [item for name, item in self.calls if name == kind]


@pytest.fixture
def sound(make_sound):
    """`sound(seconds)`: chunks of 0.1 s."""

    def make(seconds, seed=0):
        return np.split(make_sound(round(seconds * RATE), seed), round(seconds * 10))

    return make


@pytest.fixture
def pipeline(log_mel_bundle):
    """`pipeline(policy, path)`: a fresh classifier and detector, hop 0.5 s."""

    def make(policy=EAGER, path=log_mel_bundle):
        classifier = StreamingClassifier(path, 0.5)
        return Pipeline(
            classifier,
            Detector(policy, classifier.labels, classifier.hop_seconds),
            os.path.basename(path),
        )

    return make


@pytest.fixture
def listen(pipeline):
    """`listen(*items, **options)`: run a listener; return its recorder and its health."""

    def run(*items, sinks=(), strict=False, policy=EAGER, health=None, **options):
        recorder, health, source = Recorder(), health or Health(0.5), Script(*items)
        outputs = Outputs([*sinks, recorder], health, strict)
        classifier, detector, _ = pipeline(policy)
        try:
            Listener(source, classifier, detector, outputs, health, **options).run()
        finally:
            assert source.closed
            assert recorder.closed == 1
            starts = [event.id for event in recorder.of("event") if event.end_seconds is None]
            ends = [event.id for event in recorder.of("event") if event.end_seconds is not None]
            assert sorted(starts) == sorted(ends)
            assert len(set(starts)) == len(starts)
            assert health.open_events == 0
        return recorder, health

    return run


def test_results_equal_those_of_classifier_and_detector(listen, pipeline, sound):
    chunks = sound(4)
    recorder, health = listen(*chunks)
    classifier, detector, _ = pipeline()
    windows = [window for chunk in chunks for window in classifier.push(chunk)]
    windows += classifier.flush()
    events = [event for window in windows for event in detector.update(window)]
    events += detector.end(4.0, "stopped")
    assert events
    assert recorder.of("event") == events
    assert [w.to_json() for w in recorder.of("window")] == [w.to_json() for w in windows]
    np.testing.assert_array_equal(np.concatenate(recorder.of("audio")), np.concatenate(chunks))
    assert (health.windows, health.gaps) == (len(windows), 0)
    assert health.events.total() == len(events) / 2
    assert 0 < health.last_inference_seconds <= health.inference_seconds


def test_a_gap_ends_events_and_advances_the_stream_time(listen, sound):
    recorder, health = listen(*sound(2.5), Gap(7.25, "unplugged"), *sound(2))
    kinds = [name for name, _ in recorder.calls]
    at = kinds.index("gap")
    before = [event for name, event in recorder.calls[:at] if name == "event"]
    assert before[-1].end_reason == "gap"
    assert before[-1].end_seconds <= 2.5
    after = [window.start_seconds for name, window in recorder.calls[at:] if name == "window"]
    assert after == [9.75, 10.25, 10.75]
    assert (health.gaps, health.gap_seconds) == (1, 7.25)


def test_non_finite_samples_become_a_gap_in_a_live_stream(listen, sound):
    bad = np.full(3200, np.nan, np.float32)
    recorder, health = listen(*sound(1.5), bad, *sound(1), live=True)
    (gap,) = recorder.of("gap")
    assert (gap.seconds, health.gaps) == (0.1, 1)
    assert gap.reason.startswith("samples must be finite")
    assert all(np.isfinite(chunk).all() for chunk in recorder.of("audio"))
    assert recorder.of("window")[-1].start_seconds == pytest.approx(1.6)


def test_non_finite_samples_are_an_error_in_a_recording(listen, sound):
    with pytest.raises(ValueError, match="must be finite"):
        listen(*sound(1.5), np.full(3200, np.inf, np.float32), *sound(1))


@pytest.mark.parametrize("live", [False, True])
def test_a_source_without_any_sound_is_an_error(listen, sound, live):
    health = Health(0.5)
    health.set_source(True, "a pipe")
    with pytest.raises(SourceError, match="There was no sound: a pipe is empty"):
        listen(np.zeros(0, np.float32), health=health, live=live)
    requests = Requests()
    requests.stop = signal.SIGTERM
    listen(np.zeros(0, np.float32), requests=requests)


def test_events_end_when_the_source_fails(listen, sound):
    kept = []
    original = Recorder.event
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "event", lambda self, e: (kept.append(e), original(self, e)))
        with pytest.raises(SourceError, match="gone"):
            listen(*sound(2), SourceError("gone"))
    assert kept[-1].end_reason == "stopped"


def test_live_events_have_unix_times(listen, sound):
    """Chunks that arrive faster than real time come from a backlog; the newest one is current."""
    chunks = sound(3)
    started_at = time.time()
    recorder, _ = listen(
        *chunks[:5],
        np.zeros(0, np.float32),
        lambda: time.sleep(0.05),
        *chunks[5:],
        live=True,
    )
    events = recorder.of("event")
    offsets = {event.started_at - event.start_seconds for event in events}
    # The newest sample is always current, so each early chunk moves the offset back.
    assert min(offsets) >= started_at - 3
    assert max(offsets) <= time.time()
    assert events[-1].ended_at is not None
    assert all(event.started_at is None for event in listen(*sound(3))[0].of("event"))


class Clocks:
    """Monotonic and Unix clocks that the test advances."""

    def __init__(self, monkeypatch):
        self.monotonic, self.unix = 1000.0, 1.8e9
        monkeypatch.setattr("edge.sources.stream_clock.clock", lambda: self.monotonic)
        monkeypatch.setattr("time.time", lambda: self.unix)

    def advance(self, seconds):
        self.monotonic += seconds
        self.unix += seconds


def test_a_backlog_does_not_shift_unix_times(monkeypatch):
    clocks, stream = Clocks(monkeypatch), StreamClock()
    assert stream.unix_time(0.0) == 1.8e9
    for tenth in range(1, 101):
        clocks.advance(0.1)
        # Nothing is taken for 3 s; then all chunks of that time arrive together.
        if 50 <= tenth < 80:
            continue
        for late in range(50, 81) if tenth == 80 else [tenth]:
            stream.take(late / 10)
            assert stream.unix_time(late / 10) == pytest.approx(1.8e9 + late / 10, abs=0.01)


def test_a_clock_change_takes_effect_immediately(monkeypatch):
    clocks, stream = Clocks(monkeypatch), StreamClock()
    clocks.advance(1.0)
    stream.take(1.0)
    clocks.unix += 3600
    assert stream.unix_time(0.5) == pytest.approx(1.8e9 + 3600 + 0.5)


def test_the_drift_of_a_slow_sound_card_is_tracked(monkeypatch):
    clocks, stream = Clocks(monkeypatch), StreamClock()
    for hour in range(1, 25):
        for second in range(3600):
            clocks.advance(1.0 + 200e-6)
            stream.take(3600.0 * (hour - 1) + second + 1)
    assert stream.unix_time(24 * 3600.0) == pytest.approx(clocks.unix, abs=0.01)


def test_digital_silence_is_reported_once_until_there_is_sound(listen, sound, caplog):
    caplog.set_level("INFO", "semanticac_edge")
    silence = np.zeros(RATE, np.float32)
    items = [*[silence] * 90, *sound(0.2), *[silence] * 59]
    _, health = listen(*items, live=True)
    assert not health.muted
    assert [record.getMessage() for record in caplog.records] == [
        "Only digital silence for a minute: is the microphone muted?",
        "There is sound again.",
    ]
    caplog.clear()
    _, health = listen(*[silence] * 90)  # a recording may be silent
    assert not health.muted
    assert not caplog.records


def test_events_name_their_clips(listen, sound):
    recorder, _ = listen(*sound(3), name_clip=lambda event: f"{event.id}.wav")
    assert all(event.clip == f"{event.id}.wav" for event in recorder.of("event"))


class Faulty(Recorder):
    """A sink that raises at the numbered calls."""

    name = "faulty"

    def __init__(self, failing):
        super().__init__()
        self._failing = failing

    def audio(self, chunk):
        super().audio(chunk)
        if len(self.calls) in self._failing:
            raise OSError(28, "No space left on device")


def test_a_failing_output_is_logged_once_and_the_others_continue(listen, sound, caplog):
    caplog.set_level("INFO")
    faulty = Faulty({3, 4, 5, 10})
    recorder, health = listen(*sound(3), sinks=[faulty], live=True)
    assert len(recorder.of("audio")) == len(faulty.of("audio")) == 30
    assert faulty.closed == 1
    assert (
        caplog.messages
        == [
            "Output faulty fails: [Errno 28] No space left on device",
            "Output faulty works again.",
        ]
        * 2
    )
    assert health.outputs["faulty"].failures == 4
    assert health.outputs["faulty"].ok
    assert health.outputs["recorder"].failures == 0


def test_a_failing_output_is_an_error_in_a_recording(listen, sound):
    with pytest.raises(OSError, match="No space left"):
        listen(*sound(3), sinks=[Faulty({3})], strict=True)


class Abandoned(Recorder):
    """A sink with a closed pipe."""

    def gap(self, gap):
        raise BrokenPipeError(32, "Broken pipe")


def test_a_closed_pipe_ends_the_listener(listen, sound):
    left = []
    with pytest.raises(BrokenPipeError):
        listen(
            *sound(2),
            Gap(1.0, "unplugged"),
            lambda: left.append("continued"),
            sinks=[Abandoned()],
            live=True,
        )
    assert not left


def test_a_stop_request_takes_effect_after_the_chunk(listen, sound):
    requests = Requests()
    chunks = sound(3)

    def stop():
        requests.stop = signal.SIGTERM

    recorder, _ = listen(*chunks[:20], stop, *chunks[20:], live=True, requests=requests)
    assert len(recorder.of("audio")) == 21
    assert recorder.of("event")[-1].end_reason == "stopped"
    assert recorder.of("window")[-1].end_seconds == pytest.approx(2.1)


def test_a_reload_replaces_model_and_decisions_together(listen, pipeline, sound, caplog):
    caplog.set_level("INFO")
    requests = Requests()
    chunks = sound(6)

    def ask():
        requests.reload = True

    unreachable = replace(EAGER, threshold=1.0)
    recorder, _ = listen(
        *chunks[:30],
        ask,
        *chunks[30:],
        requests=requests,
        reload=lambda: pipeline(unreachable)._replace(model_name="new.tflite"),
    )
    at = recorder.calls.index(("model", "new.tflite"))
    before = [event for name, event in recorder.calls[:at] if name == "event"]
    assert before[-1].end_reason == "stopped"
    assert before[-1].end_seconds <= 3.1
    after = recorder.calls[at:]
    assert "event" not in [name for name, _ in after]
    starts = [window.start_seconds for name, window in after if name == "window"]
    assert starts == pytest.approx([3.1, 3.6, 4.1, 4.6, 5.0])
    assert caplog.messages == ["Reloaded new.tflite."]
    assert not requests.reload


@pytest.mark.parametrize("damage", ["corrupt", "missing", "truncated in place"])
def test_a_failed_reload_changes_nothing(
    listen, pipeline, sound, caplog, log_mel_bundle, tmp_path, damage
):
    path = tmp_path / "m.tflite"
    shutil.copy(log_mel_bundle, path)
    requests = Requests()
    chunks = sound(4)

    def ask():
        if damage == "missing":
            path.unlink()
        elif damage == "corrupt":
            path.write_bytes(path.read_bytes().replace(b"rain", b"rein"))
        else:
            os.truncate(path, 100)
        requests.reload = True

    options = {"requests": requests, "reload": lambda: pipeline(path=path)}
    recorder, _ = listen(*chunks[:20], ask, *chunks[20:], **options)
    expected, _ = listen(*chunks)
    assert recorder.of("event") == expected.of("event")
    assert len(recorder.of("window")) == len(expected.of("window"))
    (message,) = caplog.messages
    assert message.startswith("Not reloaded, the current model stays in use: ")
    assert str(path) in message


@pytest.fixture
def manager(tmp_path):
    """The address of a service manager's socket, and a function that returns new messages."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)

        def received():
            messages = []
            while True:
                try:
                    messages.append(listening.recv(4096).decode())
                except BlockingIOError:
                    return messages

        yield address, received


def test_the_service_manager_is_notified(listen, pipeline, sound, manager):
    address, received = manager
    requests = Requests()
    chunks, messages = sound(3), []

    def ask():
        assert received()[0] == "READY=1"
        requests.reload = True

    def receive():
        # The socket's queue may hold only ten messages.
        messages.extend(received())

    rest = [item for chunk in chunks[5:] for item in (chunk, receive)]
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000"})
    listen(*chunks[:5], ask, *rest, requests=requests, reload=pipeline, notifier=notifier)
    receive()
    reloading, ready = messages[:2]
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert now - 10e6 < int(reloading.partition("USEC=")[2]) <= now
    assert ready == "READY=1"
    assert messages[-1] == "STOPPING=1"
    assert "WATCHDOG=1" in messages
    assert "STATUS=not started (events: 2, gaps: 0)" in messages


@pytest.mark.parametrize(("source_up", "fed"), [(True, 0), (False, 5)])
def test_the_watchdog_starves_if_a_source_that_is_up_delivers_nothing(
    listen, manager, source_up, fed
):
    address, received = manager
    health = Health()
    health.set_source(source_up, "a microphone")
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4"})
    with pytest.raises(SourceError, match="no sound"):
        listen(*[np.zeros(0, np.float32)] * 5, health=health, notifier=notifier)
    messages = received()
    assert messages.count("WATCHDOG=1") == fed
    assert messages[0] == "READY=1"


def test_an_unreachable_manager_does_not_stop_the_listener(listen, sound, manager, tmp_path):
    address, _ = manager
    for _ in range(100):
        Notifier({"NOTIFY_SOCKET": address}).status("its queue is full")
    listen(*sound(1), notifier=Notifier({"NOTIFY_SOCKET": address}))
    listen(*sound(1), notifier=Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}))
    listen(*sound(1), notifier=Notifier({"NOTIFY_SOCKET": "@nobody"}))
