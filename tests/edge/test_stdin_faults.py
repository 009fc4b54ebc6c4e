"""Faults around a listener that reads a pipe: a clock change, and samples that are not sound.

Each test prints a row of the table in docs/device-faults.md; see `test_faults.py`.
"""

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.edge.hall import DECIDE, HOP_SECONDS, KEEPS_TIME_SECONDS, SOUND_SECONDS, row
from tests.edge.rig import Process
from tests.edge.sounds import STREAM_RATE_HZ, bundle, known_sounds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return bundle()


@pytest.fixture(scope="module")
def sounds(model):
    """Two sounds that the bundle recognises."""
    return known_sounds(model, HOP_SECONDS, 2, SOUND_SECONDS)


def test_events_follow_a_clock_change(tmp_path, model, sounds):
    """The clock jumps an hour ahead during a sound, as on a machine without a clock battery.

    The source is a pipe in real time: libfaketime makes processes wait for each other, and a
    waiting capture process would lose sound.
    """
    ahead, rate = 3600.0, STREAM_RATE_HZ
    offset, replacement = tmp_path / "offset", tmp_path / "new"
    offset.write_text("+0\n")
    replacement.write_text(f"+{ahead:.0f}\n")
    silence, long = np.zeros(4 * rate, np.float32), sounds[0].repeated(4.5)
    edge = silence[: 3 * rate]
    samples = np.concatenate([edge, long.samples, silence, sounds[1].samples, edge])
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
            if number == 60:
                assert process.wait_for_event("started", long.label, 0.0)
                replacement.replace(offset)
        process.stdin.close()
        assert process.wait_for_end() == 0
    assert process.of("gap") == []
    across, after = process.events("ended")
    # The first event keeps its length despite the change; the next one has the new time.
    late = 11.5 + ahead
    for event, start, end in ((across, 3, 7.5), (after, late, late + sounds[1].seconds)):
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


def test_non_finite_and_far_too_loud_samples_lose_no_other_sound(model, sounds):
    """The program that writes to the pipe may be faulty."""
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
    # NaN and infinity last 1 s each, samples that overflow a spectrum 2 s; blocks have 0.1 s.
    assert missing == pytest.approx(4.0, abs=0.5)
    row("NaN, infinity, full scale, 10³⁰ times that", "at once", "at once", missing)


def fake_time(offset):
    """Return the environment of a process whose clock is ours plus the offset in a file."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("needs libfaketime (apt-get install libfaketime)")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
