"""The main loop: source to classifier to detector to outputs."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from edge.events.detector import Detector
from edge.events.event import EndReason, Event
from edge.health import Health
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sd_notify import Notifier
from edge.signals import Requests
from edge.sinks.base import Sink
from edge.sources.base import Gap, Source, SourceError
from edge.sources.stream_clock import StreamClock
from edge.types import FloatArray

_LOGGER = logging.getLogger("semanticac_edge")


class Pipeline(NamedTuple):
    """The parts that a reload replaces together.

    Args:
        classifier: at the start of a stream.
        detector: at the start of a stream, for the classifier's labels and hop.
        model_name: display name of the model.
    """

    classifier: StreamingClassifier
    detector: Detector
    model_name: str


class Listener:
    """Processes sound from a source until the source ends or a signal requests a stop.

    In either case, and after an error, the last windows and the end of each open event reach the
    outputs.

    Args:
        source: started by `run`, and closed at its end.
        classifier: at the start of a stream, at the source's sample rate.
        detector: at the start of a stream, for the classifier's labels and hop.
        outputs: closed at the end of `run`.
        health: counters to update.
        live: whether the source delivers sound in real time. Then events have Unix times, and
            chunks that are not finite become gaps instead of errors.
        name_clip: returns the file name of an event's recording; None if there are none.
        requests: signals received; checked between chunks.
        reload: loads model and decisions again.
        notifier: reports to systemd.
    """

    def __init__(
        self,
        source: Source,
        classifier: StreamingClassifier,
        detector: Detector,
        outputs: "Outputs",
        health: Health,
        live: bool = False,
        name_clip: Callable[[Event], str] | None = None,
        requests: Requests | None = None,
        reload: Callable[[], Pipeline] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._source = source
        self._classifier, self._detector = classifier, detector
        self._outputs = outputs
        self._health = health
        self._live = live
        self._name_clip = name_clip
        self._requests = requests or Requests()
        self._load = reload
        self._notifier = notifier or Notifier({})
        self._rate = classifier.front_end.sample_rate_hz
        self._stream_samples = 0
        self._clock = StreamClock()

    def run(self) -> None:
        """Run to the end of the stream.

        Raises:
            BrokenPipeError: if the reader of stdout has closed the pipe.
            OSError: if an output fails while reading a recording.
            RuntimeError: if the model fails.
            SourceError: if the source fails, or ends without any sound.
        """
        try:
            for item in self._source:
                if isinstance(item, Gap):
                    self._take_gap(item)
                else:
                    self._take_chunk(item)
                self._notify_manager(is_progress=isinstance(item, Gap) or len(item) > 0)
                if self._requests.reload:
                    self._requests.reload = False
                    self._reload()
                if self._requests.stop:
                    break
        finally:
            self._finish()
        if not self._stream_samples and not self._requests.stop:
            raise SourceError(f"There was no sound: {self._health.source} is empty.")

    def _take_chunk(self, chunk: FloatArray) -> None:
        started = time.perf_counter()
        try:
            windows = self._classifier.push(chunk)
        except ValueError as error:
            if not self._live:
                raise
            self._take_gap(Gap(len(chunk) / self._rate, str(error)))
            return
        seconds = time.perf_counter() - started
        if len(chunk):
            self._stream_samples += len(chunk)
            self._clock.take(self._stream_seconds)
            self._notice_silence(chunk)
        self._outputs.audio(chunk)
        self._take_windows(windows, seconds)

    def _notice_silence(self, chunk: FloatArray) -> None:
        """Count digital silence, and log once that there is nothing else, and when it ends."""
        if not self._live:
            return
        was_muted = self._health.muted
        self._health.count_sound(len(chunk) / self._rate, not chunk.any())
        if self._health.muted and not was_muted:
            _LOGGER.warning("Only digital silence for a minute: is the microphone muted?")
        elif was_muted and not self._health.muted:
            _LOGGER.info("There is sound again.")

    def _take_windows(self, windows: Sequence[Classification], seconds: float) -> None:
        """Detect events in windows that took `seconds` to classify in total."""
        inferences = sum(not window.gated for window in windows)
        for window in windows:
            self._health.count_window(seconds / max(1, inferences), window.gated)
            events = self._detector.update(window, self._time_of(window.end_seconds))
            self._outputs.window(window)
            self._emit(events)

    def _take_gap(self, gap: Gap) -> None:
        self._end_events("gap")
        self._health.count_gap(gap.seconds)
        self._classifier.skip(gap.seconds)
        self._stream_samples += round(gap.seconds * self._rate)
        self._outputs.gap(gap)

    def _emit(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._name_clip:
                event = replace(event, clip=self._name_clip(event))
            self._health.count_event(event)
            self._outputs.event(event)

    def _end_events(self, reason: EndReason) -> None:
        now = self._stream_seconds
        self._emit(self._detector.end(now, reason, self._time_of(now)))

    def _finish(self) -> None:
        """Flush, end events and close; each step runs even if the previous one failed."""
        self._notifier.stopping()
        try:
            self._source.close()
            started = time.perf_counter()
            windows = self._classifier.flush()
            self._take_windows(windows, time.perf_counter() - started)
        finally:
            try:
                self._end_events("stopped")
            finally:
                self._outputs.close()

    def _reload(self) -> None:
        """Replace model and decisions, or keep both if loading fails."""
        if self._load is None:
            return
        self._notifier.reloading()
        try:
            pipeline = self._load()
            rate = pipeline.classifier.front_end.sample_rate_hz
            if rate != self._rate:
                raise ValueError(
                    f"the new model needs {rate} Hz instead of {self._rate} Hz. Restart to use it."
                )
        # Whatever is wrong with the new model, the current one works.
        except Exception as error:
            _LOGGER.error(
                "Not reloaded, the current model stays in use: %s", " ".join(str(error).split())
            )
        else:
            self._end_events("stopped")
            self._classifier, self._detector, name = pipeline
            self._classifier.skip(self._stream_seconds)
            self._health.hop_seconds = self._classifier.hop_seconds
            self._outputs.use_model(self._classifier, name)
            _LOGGER.info("Reloaded %s.", name)
        self._notifier.ready()

    def _notify_manager(self, is_progress: bool) -> None:
        """Report readiness; feed the watchdog unless the source is up but delivers nothing."""
        self._notifier.ready_once()
        if is_progress or not self._health.source_up:
            self._notifier.alive()
        events, gaps = self._health.events.total(), self._health.gaps
        self._notifier.status(f"{self._health.source} (events: {events}, gaps: {gaps})")

    @property
    def _stream_seconds(self) -> float:
        """Stream time of the newest sample."""
        return self._stream_samples / self._rate

    def _time_of(self, seconds: float) -> float | None:
        """Return the Unix time of a stream time; None if the source is not live."""
        return self._clock.unix_time(seconds) if self._live else None


class Outputs:
    """All sinks behind one interface.

    A sink that raises is logged once until it works again, and every failure is counted; the stream
    and the other sinks continue. `BrokenPipeError` is always raised, since nobody reads the rest.

    Args:
        sinks: called in this order.
        health: counters to update.
        strict: whether to raise every failure, as for a recording, which can be read again.
    """

    def __init__(self, sinks: Sequence[Sink], health: Health, strict: bool = False) -> None:
        self._sinks = tuple(sinks)
        self._health = health
        self._strict = strict
        self._failing: set[tuple[str, str]] = set()

    def use_model(self, classifier: StreamingClassifier, model_name: str) -> None:
        """See `Sink.use_model`."""
        self._each("use_model", classifier, model_name)

    def audio(self, chunk: FloatArray) -> None:
        """See `Sink.audio`."""
        self._each("audio", chunk)

    def gap(self, gap: Gap) -> None:
        """See `Sink.gap`."""
        self._each("gap", gap)

    def window(self, window: Classification) -> None:
        """See `Sink.window`."""
        self._each("window", window)

    def event(self, event: Event) -> None:
        """See `Sink.event`."""
        self._each("event", event)

    def close(self) -> None:
        """Close every sink, then raise the first failure."""
        failure = None
        for sink in self._sinks:
            try:
                self._call(sink, "close")
            except Exception as error:
                failure = failure or error
        if failure:
            raise failure

    def _each(self, method: str, *arguments: Any) -> None:
        for sink in self._sinks:
            self._call(sink, method, *arguments)

    def _call(self, sink: Sink, method: str, *arguments: Any) -> None:
        health, key = self._health.output(sink.name), (sink.name, method)
        try:
            getattr(sink, method)(*arguments)
        except Exception as error:
            if self._strict or isinstance(error, BrokenPipeError):
                raise
            health.failures += 1
            health.ok, health.error = False, " ".join(str(error).split()) or type(error).__name__
            if key not in self._failing:
                self._failing.add(key)
                _LOGGER.warning("Output %s fails: %s", sink.name, health.error)
        else:
            if key in self._failing:
                self._failing.discard(key)
                health.ok, health.error = True, ""
                _LOGGER.info("Output %s works again.", sink.name)
