"""Health counts correctly from many threads and detects overdue windows."""

import os
import threading

import pytest

from edge.events.event import Event
from edge.health import Health


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock, in seconds, that the test sets."""
    now = [100.0]
    monkeypatch.setattr("edge.health.time.monotonic", lambda: now[0])
    return now


def test_concurrent_counts_are_complete():
    health = Health()

    def count():
        for _ in range(2000):
            health.count_window(0.5)
            health.count_window(gated=True)
            health.count_gap(0.25)
            health.count_reconnect()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (health.windows, health.gated_windows) == (16_000, 8000)
    assert (health.gaps, health.reconnects) == (8000, 8000)
    assert health.inference_seconds == pytest.approx(4000)
    assert health.gap_seconds == pytest.approx(2000)


@pytest.mark.parametrize(("hop_seconds", "limit"), [(1.0, 10.0), (4.0, 20.0)])
def test_ready_while_sound_and_windows_arrive(clock, hop_seconds, limit):
    health = Health(hop_seconds)
    health.set_source(True, "USB microphone")
    assert not health.ready
    health.count_window(0.1)
    clock[0] += limit
    assert health.ready
    assert health.window_age_seconds() == pytest.approx(limit)
    clock[0] += 0.1
    assert not health.ready
    health.count_window(gated=True)
    assert health.ready
    health.set_source(False, "the device is gone")
    assert not health.ready


def test_gated_windows_add_no_inference_time():
    health = Health()
    health.count_window(0.2)
    health.count_window(gated=True)
    assert (health.inference_seconds, health.last_inference_seconds) == (0.2, 0.2)


def test_a_minute_of_digital_silence_is_a_muted_input():
    health = Health()
    for _ in range(119):
        health.count_sound(0.5, silent=True)
    assert not health.muted
    health.count_sound(0.5, silent=True)
    assert health.muted
    assert health.to_json()["muted"] is True
    health.count_sound(0.5, silent=False)
    health.count_sound(59.0, silent=True)
    assert not health.muted


def test_each_event_counts_once_by_label():
    health = Health()
    start = Event("1", "rain", 0.0, None, 0.9, 0.9, -20.0)
    health.count_event(start)
    health.count_event(Event("2", "dog", 1.0, None, 0.9, 0.9, -20.0))
    assert health.open_events == 2
    health.count_event(Event("1", "rain", 0.0, 3.0, 0.9, 0.9, -20.0, end_reason="quiet"))
    assert health.events == {"rain": 1, "dog": 1}
    assert health.open_events == 1


def test_each_output_has_one_state_and_snapshots_are_copies():
    health = Health()
    health.output("mqtt").queued = 3
    assert health.output("mqtt").queued == 3
    values = health.to_json()
    health.output("mqtt").queued = 0
    assert values["outputs"]["mqtt"]["queued"] == 3
    assert values["source_up"] is False
    assert values["window_age_seconds"] is None


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_rss_includes_new_allocations():
    health = Health()
    before = health.rss_bytes()
    block = bytearray(b"\x01") * (64 << 20)
    grown = health.rss_bytes() - before
    assert 60 << 20 < grown < 80 << 20
    del block


def test_uptime_is_monotonic(clock):
    health = Health()
    clock[0] += 2.5
    assert health.uptime_seconds() == 2.5
