"""Keeps a live source alive: starts its process, watches it, and starts it again."""

import abc
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edge.health import Health
from edge.sources.backlog import Backlog
from edge.sources.base import Gap
from edge.sources.child import Child, StallError
from edge.sources.pcm import PcmDecoder, SampleFormat
from edge.sources.resampling import Resampler
from edge.sources.timeline import Timeline, clock
from edge.types import FloatArray

_log = logging.getLogger("semanticac_edge")

_READ_BYTES = 65_536
# A live source owes its listener a chunk every half second, be it an empty one.
_PAUSE_SECONDS = 0.3
# A connection that lasts this long counts as good: the next one is tried soon after it is lost.
_GOOD_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_NO_SAMPLES = np.zeros(0, np.float32)


class SupervisedSource(abc.ABC):
    """A live source that a child process captures; a kind of source says which and how.

    A thread starts the process and reads it. Whatever goes wrong (the process ends, or writes
    nothing for too long) is logged once; the process is ended and started again, after a pause that
    doubles from the shortest to the longest, until sound comes; then that is logged once. The
    listener gets the sound, gaps that add up to what is missing by the clock, and empty chunks
    meanwhile. A break is reported when it is noticed, with the gap so far, and the rest of it when
    the sound is back: who only adds gaps up need not care.

    What the listener does not take waits, `queue_seconds` of it; then the oldest is dropped.

    Args:
        name: what is captured, for messages.
        sample_rate_hz: rate of the chunks.
        health: where to say how the source is doing; gaps are the listener's to count.
        queue_seconds: sound that may wait for the listener.
        start_seconds: how long the process may take until sound comes.
        stall_seconds: how long it may then write nothing.
        retry_seconds: shortest and longest pause before another try.
        tolerance_seconds: see `Timeline`.
        settle_seconds: see `Timeline`.
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
        self._resampler = Resampler(sample_rate_hz, sample_rate_hz)
        self._captured_rate_hz = sample_rate_hz
        self._description = name
        self._last_words = ""
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
        """Stop, from any thread or a signal handler: end the process and forget what waits."""
        self._closing.set()
        self._backlog.close(discard=True)
        with self._child_lock:
            if self._child:
                self._child.kill()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    @abc.abstractmethod
    def _command(self) -> Sequence[str]:
        """The process to start."""

    @abc.abstractmethod
    def _format(self, child: Child) -> tuple[int, int, SampleFormat]:
        """Rate, channels and format of what the process writes, read from it if it says."""

    @abc.abstractmethod
    def _is_over(self, status: int, seconds: float) -> bool:
        """Whether the process, which gave so much sound and ended, has come to the source's end.

        Raises:
            SourceError: if another try would be in vain.
        """

    def _hear(self, words: str) -> None:
        """A line of the process' words; the last one is why it ended."""
        self._last_words = words

    def _describe(self, description: str) -> None:
        """Say what is captured, when that is known more closely or changes."""
        self._description = description
        if self._up_since is not None:
            self._health.set_source(True, description)
            _log.info("Listening to %s.", description)

    @property
    def _waits_for_listener(self) -> bool:
        """Whether a full queue holds up the capture, as nothing is lost by that."""
        return False

    def _supervise(self) -> None:
        """The thread: capture, and when that fails, again."""
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
            self._hand_on(self._timeline.end())
            self._put(self._resampler.flush())
        except Exception as error:
            failure = error
            self._health.set_source(False, str(error))
        self._backlog.close(failure)

    def _capture(self) -> str | None:
        """Run the process to its end; say why it ended, or None if that was the source's."""
        self._last_words = ""
        try:
            child = Child(self._command(), self._hear)
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
                self._take(frames.mean(axis=1, dtype=np.float32))
        except EOFError:
            pass
        except StallError as error:
            stall = str(error)
            child.kill()
        finally:
            status = child.finish()
        if stall:
            return stall
        if self._is_over(status, seconds):
            return None
        return self._last_words or _describe_status(status)

    def _take(self, samples: FloatArray) -> None:
        """Hand on the next samples (n,), and what the clock says about them."""
        if samples.size:
            seconds = samples.size / self._captured_rate_hz
            items = self._timeline.push(clock(), samples, seconds)
            if items:
                self._go_up(items)
            self._hand_on(items)

    def _hand_on(self, items: Iterable[FloatArray | Gap]) -> None:
        """Put items into the backlog, at the listener's rate."""
        for item in items:
            if not isinstance(item, Gap) and not np.isfinite(item).all():
                item = Gap(item.size / self._captured_rate_hz, "samples that are no numbers")
            if isinstance(item, Gap):
                self._put(self._resampler.flush())
                self._put(item)
            else:
                self._put(self._resampler.push(item))

    def _put(self, item: FloatArray | Gap) -> None:
        if isinstance(item, Gap) or item.size:
            self._backlog.put(item, wait=self._waits_for_listener)

    def _go_up(self, items: list[FloatArray | Gap]) -> None:
        """Sound comes; say so if it did not before."""
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
        """No sound comes; say so if it did before."""
        items = self._timeline.interrupt(clock(), reason)
        self._hand_on(items)
        self._health.set_source(False, f"no sound from {self._name}: {reason}")
        self._up_since = None
        if self._missing_seconds is None:
            self._missing_seconds = 0.0
            _log.warning("No sound from %s: %s. Trying again until there is.", self._name, reason)
        self._missing_seconds += _gap_seconds(items)


def _describe_status(status: int) -> str:
    if status < 0:
        return f"was ended by signal {-status}"
    return f"failed with status {status}" if status else "ended"


def _gap_seconds(items: Iterable[FloatArray | Gap]) -> float:
    return sum(item.seconds for item in items if isinstance(item, Gap))
