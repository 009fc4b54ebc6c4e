"""Child process that runs a listener at full speed and reports its CPU time by stage.

`python -m training.bench.listening BUNDLE HOP RATE` processes one window and reports that it is
ready. Each input line then requests a number of seconds of sound. The listener has the same parts
as `semanticac-edge --stdin --json`. With `anew` after RATE, a bundle's tagger hears all of each
window, as if windows did not overlap.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO, cast

import numpy as np

from edge.events.detector import Detector, Policy
from edge.health import Health
from edge.inference.streaming import StreamingClassifier
from edge.listener import Listener, Outputs
from edge.sinks.lines import JsonSink
from edge.sources.base import Gap
from edge.sources.pcm import pcm_source
from edge.types import FloatArray
from training.bench.core import stay_on_one_core
from training.bench.stages import Stages

RESAMPLE, LOG_MEL, WINDOWS, NETWORK, DECISION, OUTPUT = STAGES = (
    *("resample", "log-mel", "windows", "network"),
    *("decision", "output"),
)
_SOUND_SECONDS = 20
_SETTLING_SECONDS = 2.0


def listen(
    bundle: str,
    hop_seconds: float,
    rate_hz: int,
    requests: TextIO,
    answers: TextIO,
    anew: bool = False,
) -> None:
    """Process sound until `requests` ends.

    Args:
        bundle: path of the model.
        hop_seconds: time between two windows.
        rate_hz: sample rate of the 16-bit mono input.
        requests: seconds of sound, one number per line.
        answers: stream for the replies.
        anew: whether the tagger hears all of each window.
    """

    def answer(**reply: Any) -> None:
        print(json.dumps(reply), file=answers, flush=True)

    try:
        stages = Stages(STAGES)
        classifier = StreamingClassifier(bundle, hop_seconds)
        if anew:
            hear_windows_anew(classifier)
        detector = Detector(Policy(), classifier.labels, classifier.hop_seconds)
        with open(os.devnull, "w") as nowhere:
            sink = JsonSink(nowhere)
            for owner, method, stage in (
                (classifier, "push", WINDOWS),
                (getattr(classifier._windows, "log_mel", None), "push", LOG_MEL),
                (classifier._interpreter, "run", NETWORK),
                (classifier._interpreter.tagger, "embed", NETWORK),
                (detector, "update", DECISION),
                (sink, "window", OUTPUT),
                (sink, "event", OUTPUT),
            ):
                if owner is not None:  # not each bundle has log-mels, or a tagger
                    stages.watch(owner, method, stage)
            health = Health(classifier.hop_seconds)
            source = _Source(classifier, rate_hz, stages, requests, answer)
            outputs = Outputs([sink], health, strict=True)
            Listener(source, classifier, detector, outputs, health).run()
    except Exception as error:  # must not stop the other contenders
        answer(error=" ".join(str(error).split())[:300] or type(error).__name__)


def hear_windows_anew(classifier: StreamingClassifier) -> None:
    """Make a classifier compute the embeddings of each window without those of earlier ones."""
    windows, samples = classifier._windows, classifier._samples
    size = classifier.front_end.window_samples
    windows.window = lambda start: windows.of(  # type: ignore[method-assign]
        samples.rows(start, start + size)
    )


class _Source:
    """Sound on request. Reports the cost of each request before it waits for the next."""

    def __init__(
        self,
        classifier: StreamingClassifier,
        rate_hz: int,
        stages: Stages,
        requests: TextIO,
        answer: Callable[..., None],
    ) -> None:
        self._stages, self._requests, self._answer = stages, requests, answer
        self._rate_hz = classifier.front_end.sample_rate_hz
        self._window_seconds = classifier.front_end.window_seconds
        self._chunks = pcm_source(cast(BinaryIO, _Pipe(rate_hz)), self._rate_hz, rate_hz)

    def __iter__(self) -> Iterator[FloatArray | Gap]:
        yield from self._sound(self._window_seconds + _SETTLING_SECONDS)
        self._answer(ready=True)
        for line in self._requests:
            seconds = float(line)
            faults = _page_faults()
            self._stages.start()
            yield from self._sound(seconds)
            spent = self._stages.seconds()
            faults = _page_faults() - faults
            self._answer(
                seconds={stage: value / seconds for stage, value in spent.items()},
                page_faults=faults / seconds,
                new_blocks=self._stages.new_blocks(),
            )

    def close(self) -> None:
        """Do nothing: no resource is open."""

    def _sound(self, seconds: float) -> Iterator[FloatArray | Gap]:
        samples = round(seconds * self._rate_hz)
        while samples > 0:
            with self._stages.stage(RESAMPLE):
                chunk = next(self._chunks)
            assert not isinstance(chunk, Gap)
            samples -= len(chunk)
            yield chunk


class _Pipe:
    """Endless 16-bit noise with a new level every second."""

    def __init__(self, rate_hz: int) -> None:
        rng = np.random.default_rng(0)
        loudness = np.repeat(rng.uniform(10, 3000, _SOUND_SECONDS), rate_hz)
        self._bytes = rng.normal(0, loudness).astype("<i2").tobytes()
        self._place = 0

    def read(self, size: int) -> bytes:
        start = self._place if self._place + size <= len(self._bytes) else 0
        self._place = start + size
        return self._bytes[start : self._place]


def _page_faults() -> int:
    """Minor page faults of this process so far; 0 on systems without `resource`."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    stay_on_one_core()
    # Libraries also print to stdout: redirect that to stderr and keep the pipe for replies.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bundle, hop_seconds, rate_hz, *anew = sys.argv[1:]
    listen(bundle, float(hop_seconds), int(rate_hz), sys.stdin, pipe, bool(anew))
