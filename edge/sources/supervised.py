"""Supervision of a live source: starts its process, watches it and restarts it."""

import abc
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edge.health import Health
from edge.sources.backlog import Backlog
from edge.sources.base import Gap
from edge.sources.child import Child, StallError
from edge.sources.downmix import MIX, Downmix
from edge.sources.pcm import PcmDecoder, SampleFormat
from edge.sources.resampling import Resampler
from edge.sources.timeline import Timeline, clock
from edge.types import FloatArray

_log = logging.getLogger("semanticac_edge")

_READ_BYTES = 65_536
# A live source must yield at least every half second, if need be an empty chunk.
_PAUSE_SECONDS = 0.3
# After a connection that lasted this long, the next attempt follows the shortest pause.
_GOOD_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_NO_SAMPLES = np.zeros(0, np.float32)


class SupervisedSource(abc.ABC):
    """A live source captured by a child process; each subclass defines the process.

    A thread starts the process and reads its output. A failure (the process ends, or writes nothing
    for too long) is logged once; the process is killed and restarted until sound arrives, after
    pauses that double from the shortest to the longest; the recovery is logged once too. The
    listener receives the sound, gaps that add up to the sound missing by the clock, and empty
    chunks meanwhile. An interruption is reported as soon as it is noticed, with the gap so far, and
    again with the rest of the gap when the sound is back.

    Up to `queue_seconds` of sound wait for the listener; beyond that, the oldest is dropped.

    Args:
        name: the source's name in messages.
        sample_rate_hz: rate of the chunks.
        health: receives the source's state; the listener counts the gaps.
        queue_seconds: sound that may wait for the listener.
        start_seconds: longest time until the process writes its first sound.
        stall_seconds: longest time that it may then write nothing.
        retry_seconds: shortest and longest pause before another attempt.
        tolerance_seconds: see `Timeline`.
        settle_seconds: see `Timeline`.
        channel: see `Downmix`.
    """

    def __init__(
        self,
        name: str,
        sample_rate_hz: int,
        health: Health | None,
        queue_seconds: float,
        start_seconds: float,
        stall_seconds: float,
        retry_seconds: tuple[float, float],
        tolerance_seconds: float,
        settle_seconds: float,
        channel: str = MIX,
    ) -> None:
        self._name = name
        self._rate_hz = sample_rate_hz
        self._health = health or Health()
        self._start_seconds = start_seconds
        self._stall_seconds = stall_seconds
        self._retry_seconds = retry_seconds
        self._backlog = Backlog(round(queue_seconds * sample_rate_hz), sample_rate_hz)
        self._tolerance_seconds = tolerance_seconds
        self._settle_seconds = settle_seconds
        self._timeline: Timeline
        self._downmix = Downmix(channel)
        self._resampler = Resampler(sample_rate_hz, sample_rate_hz)
        self._captured_rate_hz = sample_rate_hz
        self._description = name
        self._last_message = ""
        self._up_since: float | None = None
        self._missing_seconds: float | None = None
        self._closing = threading.Event()
        self._child: Child | None = None
        self._child_lock = threading.RLock()
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    def __iter__(self) -> Iterator[FloatArray | Gap]:
        self._thread.start()
        try:
            while not self._closing.is_set():
                item = self._backlog.get(_PAUSE_SECONDS)
                if item is not None:
                    yield item
                elif self._backlog.ended:
                    return
                else:
                    yield _NO_SAMPLES
        finally:
            self.close()

    def close(self) -> None:
        """Stop, from any thread or a signal handler: kill the process and drop waiting sound."""
        self._closing.set()
        self._backlog.close(discard=True)
        with self._child_lock:
            if self._child:
                self._child.kill()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    @abc.abstractmethod
    def _command(self) -> Sequence[str]:
        """Program and arguments of the process."""

    @abc.abstractmethod
    def _format(self, child: Child) -> tuple[int, int, SampleFormat]:
        """Rate, channels and format of the process's output; reads its header, if it has one."""

    @abc.abstractmethod
    def _has_ended(self, status: int, seconds: float) -> bool:
        """Whether a process that ended after `seconds` of sound has reached the source's end.

        Raises:
            SourceError: if another attempt would be futile.
        """

    def _on_message(self, message: str) -> None:
        """Handle a line that the process wrote to stderr; the last one tells why it ended."""
        self._last_message = message

    def _describe(self, description: str) -> None:
        """Update the description of what is captured, and report it if sound is arriving."""
        self._description = description
        if self._up_since is not None:
            self._health.set_source(True, description)
            _log.info("Listening to %s.", description)

    @property
    def _waits_for_listener(self) -> bool:
        """Whether the capture waits while the queue is full, instead of dropping sound."""
        return False

    def _supervise(self) -> None:
        """Run the thread: capture, and restart the capture after failures."""
        self._timeline = Timeline(clock(), self._tolerance_seconds, self._settle_seconds)
        failure: Exception | None = None
        shortest, longest = self._retry_seconds
        pause = shortest
        try:
            while (reason := self._capture()) is not None and not self._closing.is_set():
                if self._up_since is not None and clock() - self._up_since > _GOOD_SECONDS:
                    pause = shortest
                self._go_down(reason)
                self._closing.wait(pause)
                pause = min(2 * pause, longest)
            self._forward(self._timeline.end())
            self._put(self._resampler.flush())
        except Exception as error:
            failure = error
            self._health.set_source(False, str(error))
        self._backlog.close(failure)

    def _capture(self) -> str | None:
        """Run the process to its end; return the reason, or None at the end of the source."""
        self._last_message = ""
        try:
            child = Child(self._command(), self._on_message)
        except OSError as error:
            return f"cannot start: {error}"
        with self._child_lock:
            self._child = child
        if self._closing.is_set():
            child.kill()
        stall, seconds = "", 0.0
        try:
            rate_hz, channels, sample_format = self._format(child)
            decoder = PcmDecoder(channels, sample_format)
            self._captured_rate_hz = rate_hz
            self._resampler = Resampler(rate_hz, self._rate_hz)
            patience = self._start_seconds
            while data := child.read(_READ_BYTES, patience):
                patience = self._stall_seconds
                frames = decoder.push(data)
                seconds += len(frames) / rate_hz
                self._take(self._downmix.push(frames))
        except EOFError:
            pass
        except StallError as error:
            stall = str(error)
            child.kill()
        finally:
            status = child.finish()
        if stall:
            return stall
        if self._has_ended(status, seconds):
            return None
        return self._last_message or _describe_status(status)

    def _take(self, samples: FloatArray) -> None:
        """Forward the next samples (n,), with gaps where the clock shows a loss."""
        if samples.size:
            seconds = samples.size / self._captured_rate_hz
            items = self._timeline.push(clock(), samples, seconds)
            if items:
                self._go_up(items)
            self._forward(items)

    def _forward(self, items: Iterable[FloatArray | Gap]) -> None:
        """Put items into the backlog, resampled to the listener's rate."""
        for item in items:
            if not isinstance(item, Gap) and not np.isfinite(item).all():
                item = Gap(item.size / self._captured_rate_hz, "NaN or infinite samples")
            if isinstance(item, Gap):
                self._put(self._resampler.flush())
                self._put(item)
            else:
                self._put(self._resampler.push(item))

    def _put(self, item: FloatArray | Gap) -> None:
        if isinstance(item, Gap) or item.size:
            self._backlog.put(item, wait=self._waits_for_listener)

    def _go_up(self, items: list[FloatArray | Gap]) -> None:
        """Record that sound arrives; report it if it did not before."""
        if self._up_since is not None:
            return
        self._up_since = clock()
        self._health.set_source(True, self._description)
        if self._missing_seconds is None:
            _log.info("Listening to %s.", self._description)
        else:
            missing = self._missing_seconds + _gap_seconds(items)
            self._missing_seconds = None
            self._health.count_reconnect()
            _log.info("Listening to %s again; %.1f s are missing.", self._name, missing)

    def _go_down(self, reason: str) -> None:
        """Record that the sound stopped; report it if it arrived before."""
        items = self._timeline.interrupt(clock(), reason)
        self._forward(items)
        self._health.set_source(False, f"no sound from {self._name}: {reason}")
        self._up_since = None
        if self._missing_seconds is None:
            self._missing_seconds = 0.0
            _log.warning("No sound from %s: %s. Trying again until there is.", self._name, reason)
        self._missing_seconds += _gap_seconds(items)


def _describe_status(status: int) -> str:
    if status < 0:
        return f"was killed by signal {-status}"
    return f"failed with status {status}" if status else "ended"


def _gap_seconds(items: Iterable[FloatArray | Gap]) -> float:
    return sum(item.seconds for item in items if isinstance(item, Gap))
