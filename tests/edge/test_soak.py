"""A long stream, faster than real time: constant memory, exact counts, no drift.

15 minutes of sound by default; SEMANTICAC_SOAK_HOURS sets another length. A day takes minutes:

    SEMANTICAC_BUNDLE=runs/demo/model.tflite SEMANTICAC_SOAK_HOURS=24 \
        pytest -rP tests/edge/test_soak.py
"""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.edge.rig import Process
from tests.edge.sounds import (
    GATE_DBFS,
    SMOOTHING_SECONDS,
    STREAM_RATE_HZ,
    bundle,
    known_sounds,
)

pytest.importorskip("paho.mqtt")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

HOURS = float(os.environ.get("SEMANTICAC_SOAK_HOURS", "0.25"))
RATE_HZ = 32_000
HOP_SECONDS = 1.0
MINUTE_SECONDS = 60
MOST_GROWTH_MB = 5.0
# Seconds of each minute at which its two sounds and its noise begin.
SOUNDS_AT = (10, 35)
NOISE_AT = 52

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return bundle()


@pytest.fixture(scope="module")
def sounds(model):
    return known_sounds(model, HOP_SECONDS, 4)


def minute(number, sounds):
    """Return a unique minute of silence, two sounds and some noise, as 16-bit samples."""
    rng = np.random.default_rng(number)
    samples = np.zeros(MINUTE_SECONDS * RATE_HZ, np.float32)
    for place, sound in zip(SOUNDS_AT, minute_sounds(number, sounds), strict=True):
        resampled = soxr.resample(sound.samples, STREAM_RATE_HZ, RATE_HZ)
        start = place * RATE_HZ
        samples[start : start + len(resampled)] = resampled
    noise = samples[NOISE_AT * RATE_HZ : (NOISE_AT + 2) * RATE_HZ]
    noise += 10 ** rng.uniform(-3, -0.5) * rng.uniform(-1, 1, noise.size)
    return (samples * 32767).astype("<i2").tobytes()


def minute_sounds(number, sounds):
    """Return the two sounds of a minute."""
    return sounds[number % len(sounds)], sounds[(number // 2 + 1) % len(sounds)]


def test_a_long_stream_keeps_memory_counts_and_time(model, sounds, tmp_path):
    minutes = round(HOURS * 60)
    with Process(
        *("--stdin", "--rate", RATE_HZ, "--hop", HOP_SECONDS, "--gate-dbfs", GATE_DBFS),
        *("--smoothing", SMOOTHING_SECONDS),
        *("--clips", tmp_path, "--clips-quota-mb", 2, "--serve", 0),
        # No broker answers: messages wait in the queue, up to its limit.
        *("--mqtt", "mqtt://127.0.0.1:1", "--mqtt-topic", "semanticac/soak"),
        model=model,
        stdin=subprocess.PIPE,
        keep=("type", "end_seconds"),
    ) as process:
        started = time.monotonic()
        process.stdin.write(minute(0, sounds))
        process.stdin.flush()
        wait_for_end_of(process, MINUTE_SECONDS)
        early = Usage(process.pid)
        for number in range(1, minutes):
            process.stdin.write(minute(number, sounds))
        process.stdin.flush()
        wait_for_end_of(process, minutes * MINUTE_SECONDS)
        late = Usage(process.pid)
        took = time.monotonic() - started
        process.stdin.close()
        assert process.wait_for_end() == 0
    assert late.rss_mb - early.rss_mb < MOST_GROWTH_MB
    # A clip being written or a connection attempt may take one more of each.
    assert late.files <= early.files + 2
    assert late.threads <= early.threads + 1
    assert_counted(process, minutes)
    events = assert_heard(process, sounds, minutes)
    print(
        f"{HOURS:g} h of sound in {took:.0f} s, {late.cpu_seconds:.0f} s of CPU; "
        f"{len(process.of('window'))} windows, {events} events; "
        f"memory {early.rss_mb:.1f} MB after a minute, {late.rss_mb:.1f} MB at the end, "
        f"{late.peak_mb:.1f} MB at most"
    )


def wait_for_end_of(process, seconds):
    """Wait for the last complete window before that stream time."""
    process.wait(
        lambda: (
            (windows := process.of("window"))
            and windows[-1].values["end_seconds"] > seconds - HOP_SECONDS - 0.1
        ),
        seconds=600,
    )


def assert_counted(process, minutes):
    """Assert one window per hop, and the rest of the stream at its end."""
    ends = np.array([line.values["end_seconds"] for line in process.of("window")])
    window_seconds, total_seconds = ends[0], minutes * MINUTE_SECONDS
    complete = int((total_seconds - window_seconds) / HOP_SECONDS) + 1
    expected = window_seconds + HOP_SECONDS * np.arange(complete)
    np.testing.assert_allclose(ends[:complete], expected, atol=1e-6)
    np.testing.assert_allclose(ends[complete:], [total_seconds], atol=1e-6)
    assert process.of("gap") == []


def assert_heard(process, sounds, minutes):
    """Assert an event at the time of every sound; return the number of events."""
    events = process.events("ended")
    starts = np.array([event["start_seconds"] for event in events])
    for number in range(minutes):
        for place, sound in zip(SOUNDS_AT, minute_sounds(number, sounds), strict=True):
            begins = number * MINUTE_SECONDS + place
            (index,) = np.flatnonzero(np.abs(starts - begins) <= HOP_SECONDS)
            assert events[index]["label"] == sound.label
            assert events[index]["end_seconds"] == pytest.approx(
                begins + sound.seconds, abs=HOP_SECONDS
            )
    return len(events)


class Usage:
    """Resources that a process uses."""

    def __init__(self, pid):
        directory = Path(f"/proc/{pid}")
        lines = (directory / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        self.rss_mb = int(status["VmRSS"].split()[0]) / 1024
        self.peak_mb = int(status["VmHWM"].split()[0]) / 1024
        self.threads = int(status["Threads"])
        self.files = len(list((directory / "fd").iterdir()))
        user, system = (directory / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
        self.cpu_seconds = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
