"""Clips of events: their samples, their quota, and failing disks."""

import logging
import os
import subprocess
import sys
import threading
import time
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.events.event import Event
from edge.health import Health
from edge.sinks.clips import ClipSink, clip_name
from edge.sources import Gap
from tests.edge.mosquitto import wait_until

ROOT = Path(__file__).parents[3]
RATE = 8000
# A clip of one second: the samples, and the header with a short label.
CLIP_BYTES = 2 * RATE + 200


@pytest.fixture
def small_disk(tmp_path):
    """A mounted file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux to mount a small disk")
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounting.returncode:
        pytest.skip(f"needs to mount a small disk: {mounting.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def messages(caplog):
    """Returns the messages logged so far."""
    caplog.set_level(logging.INFO, "semanticac_edge")
    return lambda: [record.getMessage() for record in caplog.records]


def event(number=1, start=1.0, label="rain", clip=None):
    return Event(f"2026-{number:04d}", label, start, None, 0.9, 0.9, -30.0, clip=clip)


def ended(event, seconds):
    return replace(event, end_seconds=seconds, end_reason="quiet")


def ramp(seconds, start=0.0):
    """Samples that encode their position in the stream."""
    positions = np.arange(round(start * RATE), round((start + seconds) * RATE))
    return (positions % 30_000 / 32_768).astype(np.float32)


def sink(directory, **options):
    settings = {"quota_mb": 10, "pre_seconds": 0.25, "post_seconds": 0.5, "max_seconds": 4}
    return ClipSink(directory, RATE, **settings | {"late_seconds": 3} | options)


def stream(clips, seconds, start=0.0, chunk=500):
    """Push a section of the ramp in chunks."""
    samples = ramp(seconds, start)
    for at in range(0, samples.size, chunk):
        clips.audio(samples[at : at + chunk])


def assert_clip(path, start, stop):
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    assert samples.size == round((stop - start) * RATE)
    np.testing.assert_array_equal(samples, ramp(stop - start, start))


@pytest.mark.parametrize("chunk", [7, 333, 8000, 50_000])
def test_a_clip_holds_the_event_and_its_margins(tmp_path, chunk):
    clips = sink(tmp_path / "new")
    heard = event(label="Glocke ♪")
    # Events are reported late, and never before the chunk with their sound.
    reports = [(2.0, heard), (3.4, ended(heard, 2.5))]
    samples = ramp(6.25)
    for at in range(0, samples.size, chunk):
        clips.audio(samples[at : at + chunk])
        while reports and reports[0][0] * RATE <= at + chunk:
            clips.event(reports.pop(0)[1])
    clips.close()
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == clip_name(heard) == "2026-0001_glocke.wav"
    assert_clip(path, 0.75, 3.0)
    assert soundfile.SoundFile(path).title == "Glocke ♪"


def test_a_clip_waits_for_the_sound_after_the_event(tmp_path):
    clips = sink(tmp_path)
    stream(clips, 2.0)
    clips.event(event())
    clips.event(ended(event(), 1.75))
    stream(clips, 0.24, start=2.0)
    time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    stream(clips, 0.02, start=2.24)
    wait_until(lambda: (tmp_path / clip_name(event())).exists())
    assert_clip(tmp_path / clip_name(event()), 0.75, 2.25)
    clips.close()


def test_the_clip_of_a_long_event_is_cut_and_written_before_the_event_ends(tmp_path):
    clips = sink(tmp_path)
    stream(clips, 1.0)
    clips.event(event())
    stream(clips, 9.0, start=1.0)
    path = tmp_path / clip_name(event())
    wait_until(path.exists)
    assert_clip(path, 0.75, 4.75)
    clips.event(ended(event(), 9.5))
    clips.close()
    assert list(tmp_path.iterdir()) == [path]


def test_overlapping_events_have_one_clip_each(tmp_path):
    clips = sink(tmp_path)
    rain, dog = event(1, 1.0), event(2, 1.5, "dog", clip="../named.wav")
    stream(clips, 2.0)
    clips.event(rain)
    clips.event(dog)
    stream(clips, 2.0, start=2.0)
    clips.event(ended(dog, 2.5))
    clips.event(ended(rain, 3.0))
    clips.close()
    assert_clip(tmp_path / clip_name(rain), 0.75, 3.5)
    assert_clip(tmp_path / "named.wav", 1.25, 3.0)


def test_no_clip_spans_a_gap_and_later_clips_have_correct_times(tmp_path):
    clips = sink(tmp_path)
    before, after = event(1, 1.0), event(2, 102.1)
    stream(clips, 1.8)
    clips.event(before)
    clips.event(replace(ended(before, 1.8), end_reason="gap"))
    clips.gap(Gap(100.2, "the device was removed"))
    stream(clips, 3.0, start=102.0)
    clips.event(after)
    clips.event(ended(after, 103.0))
    clips.close()
    assert_clip(tmp_path / clip_name(before), 0.75, 1.8)
    # The sound before the event is missing in the gap.
    assert_clip(tmp_path / clip_name(after), 102.0, 103.5)


def test_samples_are_written_unchanged(tmp_path):
    """Each 16-bit value survives; values beyond full scale, NaN and infinity are clipped."""
    clips = sink(tmp_path, pre_seconds=0, post_seconds=0, max_seconds=10)
    values = np.arange(-32_768, 32_768).astype(np.float32) / 32_768
    bad = np.array([2.0, -2.0, np.inf, -np.inf, np.nan], np.float32)
    clips.audio(np.concatenate([values, bad]))
    clips.event(event(start=0.0))
    clips.close()
    with wave.open(str(tmp_path / clip_name(event()))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert samples[:65_536].tolist() == list(range(-32_768, 32_768))
    assert samples[65_536:].tolist() == [32_767, -32_768, 32_767, -32_768, 0]


def record(clips, health, numbers):
    """Record events of one second; event n starts at 2n seconds."""
    for number in numbers:
        heard = event(number, number * 2.0)
        stream(clips, 2.0, start=number * 2.0)
        clips.event(heard)
        clips.event(ended(heard, number * 2.0 + 1.0))
        wait_until(lambda: health.outputs["clips"].queued == 0)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_oldest_clips_are_deleted_across_restarts(tmp_path):
    foreign = tmp_path / "0000-0001_rain.wav"
    soundfile.write(foreign, ramp(1), RATE, subtype="PCM_16")
    os.utime(foreign, (0, 0))
    (tmp_path / "holiday.wav").symlink_to(foreign)
    (tmp_path / "notes.txt").write_text("mine")
    theirs = set(names(tmp_path))
    options = {"pre_seconds": 0, "post_seconds": 0, "quota_mb": 5 * CLIP_BYTES / 1e6}
    for numbers in (range(0, 4), range(4, 9)):
        health = Health()
        clips = sink(tmp_path, health=health, **options)
        clips.gap(Gap(numbers[0] * 2.0, "the stream starts later"))
        record(clips, health, numbers)
        clips.close()
    kept = [clip_name(event(number)) for number in range(4, 9)]
    assert sorted(theirs | set(kept)) == names(tmp_path)
    # A clip that the user deleted does not count.
    (tmp_path / kept[2]).unlink()
    clips = sink(tmp_path, health=health, **options)
    clips.gap(Gap(18.0, "the stream starts later"))
    record(clips, health, [9])
    clips.close()
    assert sorted({*theirs, *kept, clip_name(event(9))} - {kept[2]}) == names(tmp_path)


def test_a_clip_larger_than_the_quota_deletes_nothing(tmp_path, messages):
    health = Health()
    clips = sink(tmp_path, quota_mb=CLIP_BYTES / 1e6, pre_seconds=0, post_seconds=0, health=health)
    record(clips, health, [0])
    stream(clips, 4.0, start=2.0)
    clips.event(event(1, 2.0))
    clips.event(ended(event(1, 2.0), 5.0))
    clips.close()
    assert names(tmp_path) == [clip_name(event(0))]
    assert health.outputs["clips"].dropped == 1
    assert len(messages()) == 1
    assert "larger than the quota" in messages()[0]


def test_a_full_disk_is_reported_once_and_clips_resume(small_disk, messages):
    health = Health()
    clips = sink(small_disk, pre_seconds=0, post_seconds=0, health=health)
    ballast = small_disk / "ballast"
    record(clips, health, [0])
    ballast.write_bytes(bytes(1_000_000 - 40_000))
    record(clips, health, range(1, 6))
    state = replace(health.outputs["clips"])
    assert not state.ok
    assert state.error.endswith("No space left on device")
    assert state.dropped + len(names(small_disk)) - 1 == 6
    assert all(not name.startswith(".") for name in names(small_disk))
    ballast.unlink()
    record(clips, health, range(6, 9))
    clips.close()
    assert {clip_name(event(number)) for number in (0, 6, 7, 8)} <= set(names(small_disk))
    assert (health.outputs["clips"].ok, health.outputs["clips"].error) == (True, "")
    assert health.outputs["clips"].dropped == state.dropped
    lost, back = messages()
    assert "No space left on device" in lost
    assert "again" in back


def test_an_unusable_directory_is_reported_once_and_may_appear_later(tmp_path, messages):
    """For example, a disk that is mounted late."""
    health = Health()
    directory = tmp_path / "disk" / "clips"
    (tmp_path / "disk").write_text("in the way")
    clips = sink(directory, health=health)
    record(clips, health, range(2))
    assert health.outputs["clips"].dropped == 2
    (tmp_path / "disk").unlink()
    record(clips, health, [2])
    clips.close()
    assert names(directory) == [clip_name(event(2))]
    assert len(messages()) == 2


def test_foreign_files_are_not_overwritten(tmp_path, messages):
    path = tmp_path / clip_name(event(0))
    path.write_bytes(b"RIFF of another")
    health = Health()
    clips = sink(tmp_path, health=health)
    record(clips, health, [0])
    clips.close()
    assert path.read_bytes() == b"RIFF of another"
    assert "already exists" in messages()[0]


@pytest.mark.slow
def test_the_unfinished_file_of_a_killed_process_is_removed(tmp_path):
    """Until then, it does not look like a clip."""
    code = f"""
import os, signal
import numpy as np
import edge.files
from edge.events.event import Event
from edge.sinks.clips import ClipSink
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
clips = ClipSink({str(tmp_path)!r}, 8000)
clips.audio(np.zeros(16_000, np.float32))
clips.event(Event("1", "rain", 1.0, None, 0.9, 0.9, -30.0))
clips.close()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    os.utime(left, (0, 0))
    mine = tmp_path / ".abcdefgh.mine.wav"
    soundfile.write(mine, ramp(1), RATE)
    os.utime(mine, (0, 0))
    health = Health()
    clips = sink(tmp_path, health=health)
    record(clips, health, [0])
    clips.close()
    assert names(tmp_path) == [mine.name, clip_name(event(0))]


def test_a_slow_disk_does_not_block_the_listener(tmp_path, monkeypatch, messages):
    disk, fsync = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (disk.wait(10), fsync(file)))
    health = Health()
    clips = sink(tmp_path, health=health)
    stream(clips, 3.0)
    before = time.monotonic()
    for number in range(20):
        heard = event(number)
        clips.event(heard)
        clips.event(ended(heard, 2.0))
    assert time.monotonic() - before < 1
    # One clip may be in progress besides the eight queued ones.
    assert health.outputs["clips"].queued in (8, 9)
    disk.set()
    clips.close()
    assert health.outputs["clips"].queued == 0
    assert len(names(tmp_path)) + health.outputs["clips"].dropped == 20
    assert len(names(tmp_path)) in (8, 9)
    assert "too slow" in messages()[0]


@pytest.mark.parametrize(
    "options", [{"quota_mb": 0}, {"max_seconds": -1}, {"pre_seconds": -1}, {"late_seconds": -1}]
)
def test_invalid_settings_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match="Received: "):
        sink(tmp_path, **options)
