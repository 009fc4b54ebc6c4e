"""Audio clips of events, in a directory with a size quota."""

import logging
import os
import re
import stat
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.events.event import Event
from edge.files import replacing
from edge.health import Health, OutputHealth
from edge.inference.ring import Ring
from edge.sinks.base import Sink
from edge.sinks.slugs import slug
from edge.sources.base import Gap
from edge.types import FloatArray

_LOGGER = logging.getLogger("semanticac_edge")

# First entry of the header's INFO list: marks the clips of this class.
_MARK = b"INFOISFT" + struct.pack("<I", 16) + b"semanticac-edge\0"
_MARK_AT = 44
# Unfinished files of `edge.files.replacing`.
_TEMPORARY = re.compile(r"\.[a-z0-9_]{8}\..+\.wav")
_ABANDONED_SECONDS = 60.0
# File names are limited to 255 bytes, and a label can be a sentence.
_MAX_SLUG = 80
_MAX_WAITING = 8
_CLOSE_SECONDS = 5.0


@dataclass
class _Cut:
    """A clip to write: the samples from `start` up to `stop`."""

    name: str
    label: str
    start: int
    stop: int
    done: bool = False


class ClipSink(Sink):
    """Writes a 16-bit mono WAV of each event, with some sound before and after it.

    A clip appears under its name only when it is complete. If clips cannot be written (the disk is
    full, missing or read-only), the first failure is logged, every lost clip is counted, and the
    next clip is tried again.

    The quota covers all WAV files that this class wrote, including those of earlier runs, which it
    recognizes by their header. It never deletes other files.

    Args:
        directory: folder of the clips; created with the first clip.
        sample_rate_hz: sample rate of the chunks.
        quota_mb: size of all clips, in megabytes of 10⁶ bytes; the oldest are deleted first.
        pre_seconds: sound before the event.
        post_seconds: sound after the event.
        max_seconds: longest clip; longer ones are cut.
        late_seconds: longest delay between an event's start and its report: the model's window and
            the delay of the decision.
        health: counts queued and lost clips.

    Raises:
        ValueError: if the quota or the longest clip is not positive, or another time is negative.
    """

    name = "clips"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        sample_rate_hz: int,
        quota_mb: float = 500.0,
        pre_seconds: float = 1.0,
        post_seconds: float = 1.0,
        max_seconds: float = 30.0,
        late_seconds: float = 30.0,
        health: Health | None = None,
    ) -> None:
        if not (quota_mb > 0 and max_seconds > 0):
            raise ValueError(
                "`quota_mb` and `max_seconds` must be positive. "
                f"Received: {quota_mb} and {max_seconds}."
            )
        if min(pre_seconds, post_seconds, late_seconds) < 0:
            raise ValueError(
                "`pre_seconds`, `post_seconds` and `late_seconds` must not be negative. "
                f"Received: {pre_seconds}, {post_seconds} and {late_seconds}."
            )
        self._rate = sample_rate_hz
        self._pre = round(pre_seconds * sample_rate_hz)
        self._post = round(post_seconds * sample_rate_hz)
        self._max = round(max_seconds * sample_rate_hz)
        self._late = round(late_seconds * sample_rate_hz)
        # A piece of a chunk comes on top, see `audio`.
        self._recent = Ring(self._max + self._late + self._rate, np.int16)
        self._open: dict[str, _Cut] = {}
        self._ending: list[_Cut] = []
        own_health = OutputHealth() if health is None else health.output(self.name)
        self._writer = _Writer(Path(directory), sample_rate_hz, round(quota_mb * 1e6), own_health)

    def audio(self, chunk: FloatArray) -> None:
        """Keep the samples, and write the clips that they complete."""
        # In pieces, so that a clip is cut before later samples overwrite it.
        for start in range(0, len(chunk), self._rate):
            self._recent.append(_as_int16(chunk[start : start + self._rate]))
            self._cut_complete()

    def gap(self, gap: Gap) -> None:
        """Write all pending clips as they are: no clip spans a gap."""
        self._cut_all()
        self._recent.skip(round(gap.seconds * self._rate))

    def event(self, event: Event) -> None:
        """Start a clip, or set its end."""
        cut = self._open.get(event.id)
        if cut is None:
            name = clip_name(event) if event.clip is None else Path(event.clip).name
            start = round(event.start_seconds * self._rate) - self._pre
            cut = self._open[event.id] = _Cut(name, event.label, start, start + self._max)
        if event.end_seconds is not None:
            del self._open[event.id]
            cut.stop = min(cut.stop, round(event.end_seconds * self._rate) + self._post)
            self._ending.append(cut)
            self._cut_complete()

    def close(self) -> None:
        """Write pending clips, for at most five seconds."""
        self._cut_all()
        self._writer.close(_CLOSE_SECONDS)

    def _cut_complete(self) -> None:
        for cut in self._open.values():
            # Until then, the event may still turn out to have ended earlier.
            if cut.stop + self._late <= self._recent.seen:
                self._write(cut)
        for cut in [cut for cut in self._ending if cut.stop <= self._recent.seen]:
            self._write(cut)
            self._ending.remove(cut)

    def _cut_all(self) -> None:
        for cut in (*self._open.values(), *self._ending):
            self._write(cut)
        self._ending.clear()

    def _write(self, cut: _Cut) -> None:
        if not cut.done:
            cut.done = True
            samples = self._recent.available(cut.start, cut.stop).copy()
            self._writer.put(cut.name, cut.label, samples)


def clip_name(event: Event) -> str:
    """The file name of an event's clip: its id, which sorts by time, and its label."""
    return f"{event.id}_{slug(event.label)[:_MAX_SLUG]}.wav"


def _as_int16(chunk: FloatArray) -> npt.NDArray[np.int16]:
    """Convert samples, full scale 1, to 16 bits; values beyond full scale are clipped, NaN is 0."""
    finite = np.nan_to_num(chunk, nan=0.0, posinf=1.0, neginf=-1.0)
    pcm: npt.NDArray[np.int16] = np.clip(np.rint(finite * 32768.0), -32768, 32767).astype(np.int16)
    return pcm


class _Writer:
    """Writes clips in a thread, so that a slow disk does not block the listener."""

    def __init__(
        self, directory: Path, sample_rate_hz: int, quota_bytes: int, health: OutputHealth
    ) -> None:
        self._directory = directory
        self._rate = sample_rate_hz
        self._quota = quota_bytes
        self._health = health
        # For each WAV file in the directory, whether this class wrote it.
        self._ours: dict[str, bool] = {}
        self._waiting: deque[tuple[str, str, npt.NDArray[np.int16]]] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._thread.start()

    def put(self, name: str, label: str, samples: npt.NDArray[np.int16]) -> None:
        """Queue a clip; drop the oldest if too many wait."""
        with self._changed:
            if not samples.size:
                self._fail("the sound is no longer in memory")
                return
            self._waiting.append((name, label, samples))
            if len(self._waiting) > _MAX_WAITING:
                self._waiting.popleft()
                self._fail("the disk is too slow")
            self._count()
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Write queued clips, for at most `seconds`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            _LOGGER.warning("Clips: %d clips were not written in time.", self._health.queued)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                name, label, samples = self._waiting.popleft()
                self._busy = True
            try:
                self._write(name, label, samples)
                failure = ""
            except (OSError, ValueError) as error:
                failure = getattr(error, "strerror", None) or str(error)
            with self._changed:
                self._busy = False
                self._count()
                if failure:
                    self._fail(failure)
                elif not self._health.ok:
                    self._health.ok, self._health.error = True, ""
                    _LOGGER.info("Clips: writing to %s again.", self._directory)

    def _count(self) -> None:
        self._health.queued = len(self._waiting) + self._busy

    def _fail(self, why: str) -> None:
        """Count a lost clip. The caller holds the lock."""
        self._health.dropped += 1
        if self._health.ok:
            _LOGGER.warning("Clips: cannot write to %s: %s.", self._directory, why)
        self._health.ok, self._health.error = False, f"{self._directory}: {why}"

    def _write(self, name: str, label: str, samples: npt.NDArray[np.int16]) -> None:
        path = self._directory / name
        if path.exists() and not _is_ours(path):
            raise ValueError(f"{name} already exists and is not a clip of this program")
        header = _wav_header(label, samples.size, self._rate)
        self._make_room(len(header) + samples.nbytes)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(header)
            file.write(samples.astype("<i2", copy=False).data)

    def _make_room(self, size: int) -> None:
        """Delete the oldest clips until `size` bytes fit the quota."""
        if size > self._quota:
            raise ValueError(f"a clip of {size} bytes is larger than the quota")
        clips = self._clips()
        total = sum(clip_size for _, _, clip_size in clips)
        for _, path, clip_size in sorted(clips):
            if total + size <= self._quota:
                return
            path.unlink(missing_ok=True)
            total -= clip_size

    def _clips(self) -> list[tuple[int, Path, int]]:
        """Write time, path and size of each clip; removes files left by a killed process."""
        clips = []
        known, self._ours = self._ours, {}
        try:
            paths = [Path(entry) for entry in os.scandir(self._directory)]
        except FileNotFoundError:
            return []
        for path in paths:
            try:
                status = path.lstat()
            except FileNotFoundError:  # Deleted in the meantime.
                continue
            if path.suffix != ".wav" or not stat.S_ISREG(status.st_mode):
                continue
            ours = known.get(path.name)
            if ours is None:
                ours = _is_ours(path)
            if not _TEMPORARY.fullmatch(path.name):
                self._ours[path.name] = ours
                if ours:
                    clips.append((status.st_mtime_ns, path, status.st_size))
            elif time.time() - status.st_mtime > _ABANDONED_SECONDS and (
                ours or status.st_size < _MARK_AT
            ):
                path.unlink(missing_ok=True)
        return clips


def _wav_header(label: str, samples: int, rate_hz: int) -> bytes:
    """Header of a mono 16-bit WAV file, with the label as title."""
    title = label.encode() + b"\0"
    title += b"\0" * (len(title) % 2)
    information = _MARK + b"INAM" + struct.pack("<I", len(title)) + title
    data_bytes = 2 * samples
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    body += b"LIST" + struct.pack("<I", len(information)) + information
    body += b"data" + struct.pack("<I", data_bytes)
    return b"RIFF" + struct.pack("<I", len(body) + data_bytes) + body


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except OSError:
        return False
