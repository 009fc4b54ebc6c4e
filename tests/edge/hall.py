"""A listener that runs through one fault after the other, and what each fault costs."""

import contextlib
import shutil
import subprocess
import time

import numpy as np
import pytest

from tests.edge.rig import Process
from tests.edge.sounds import GATE_DBFS, SMOOTHING_SECONDS

HOP_SECONDS = 0.5
# Largest drift between stream time and clock, between two moments in which sound flows.
KEEPS_TIME_SECONDS = 0.3
SOUND_SECONDS = 1.5
DECIDE = (
    *("--hop", HOP_SECONDS, "--smoothing", SMOOTHING_SECONDS),
    *("--gate-dbfs", GATE_DBFS, "--refractory", 0),
)
TOPIC = "semanticac/hall"


class Hall:
    """A room with a listener that all faults happen to, in turn.

    Args:
        directory: of the model and the mount point of the disk.
        model: the bundle; copied, so that a test can damage it.
        room: the sound server.
        broker: the MQTT broker.
        watcher: a subscriber of the broker.
        limits: see `Process`.

    Attributes:
        process: the current listener.
        processes: all listeners so far, the current one last.
        disk: a small disk, if this user may mount one.
    """

    def __init__(self, directory, model, room, broker, watcher, limits=None):
        self.room, self.broker, self.watcher = room, broker, watcher
        self.model, self.disk = directory / "model.tflite", directory / "disk"
        self.limits, self.processes = limits, []
        shutil.copy(model, self.model)

    def start(self):
        """Start a listener and wait for its first window."""
        self.process = Process(
            *("--device", "vmic.monitor", *DECIDE),
            *("--mqtt", self.broker.url(None), "--mqtt-topic", TOPIC),
            *("--clips", self.clips, "--clips-quota-mb", 4),
            model=self.model,
            environment=self.room.server.environment,
            limits=self.limits,
        )
        self.process.prioritise()
        self.processes.append(self.process)
        self.process.wait_for_windows()

    def close(self):
        """Kill all listeners."""
        for process in self.processes:
            process.close()

    @property
    def clips(self):
        """Directory of the recordings of events."""
        return self.disk / "clips"


def row(fault, detected, recovered, missing, lost="0"):
    """Print a table row with the cost of a fault; numbers are seconds."""
    cells = [
        f"{cell:.1f} s" if isinstance(cell, float) else cell
        for cell in (detected, recovered, missing)
    ]
    print("|", " | ".join([fault, *cells, lost]), "|")


def assert_heard(process, room, sound, sink=None):
    """Play a sound after silence; assert its event at the right time and return the event."""
    process.wait_for_silence()
    since = time.monotonic()
    playing = room.play(sound, sink).wait()
    event = process.wait_for_event("ended", sound.label, since)
    playing.assert_heard(event, sound, HOP_SECONDS)
    assert event["end_reason"] == "quiet"
    return event


def begin(process, room, sound, sink=None):
    """Start to play a long sound; return the player once the sound's event has started."""
    process.wait_for_silence()
    since = time.monotonic()
    playing = room.play(sound.repeated(120), sink)
    event = process.wait_for_event("started", sound.label, since)
    assert -HOP_SECONDS <= event["started_at"] - playing.earliest <= HOP_SECONDS + 1
    return playing


def assert_cut(process, sound, broke_at, since):
    """Assert that a gap ended the event of a sound where the sound broke off (Unix time)."""
    event = process.wait_for_event("ended", sound.label, since)
    assert event["end_reason"] == "gap"
    assert event["ended_at"] == pytest.approx(broke_at, abs=HOP_SECONDS + KEEPS_TIME_SECONDS)


def assert_keeps_time(process, before, after):
    """Assert that samples and gaps add up to the elapsed time; return the length of the gaps.

    Args:
        process: the listener.
        before: monotonic time of the fault.
        after: monotonic time from which sound flows again.
    """
    was, now = process.lag(before - 3, before), process.lag(after)
    assert now == pytest.approx(was, abs=KEEPS_TIME_SECONDS)
    gaps = [line.values["seconds"] for line in process.of("gap", before)]
    windows = [line.values for line in process.of("window", before - 1)]
    steps = np.diff([window["end_seconds"] for window in windows])
    # Only after a gap is the next window later than a hop. That window begins after the gap, and
    # the previous one may have ended a hop before it. Sound between two gaps of one step is too
    # short for a window.
    late = steps[steps > HOP_SECONDS * 1.01]
    window_seconds = windows[0]["end_seconds"] - windows[0]["start_seconds"]
    between = len(gaps) - len(late)
    assert between >= 0, f"gaps: {gaps}, steps: {late}"
    most = len(late) * (window_seconds + 2 * HOP_SECONDS) + between * window_seconds
    assert 0 <= late.sum() - sum(gaps) <= most, f"gaps: {gaps}, steps: {late}"
    return sum(gaps)


@contextlib.contextmanager
def tmpfs(directory, size):
    """Mount a small disk, if this user may; yield whether it is mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", directory]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
