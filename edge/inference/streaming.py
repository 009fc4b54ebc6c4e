"""The streaming classifier: samples in, one classification per window out."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.inference.bundle import BundleContract
from edge.inference.frontend import FrontEnd
from edge.inference.interpreter import Interpreter, Prediction
from edge.inference.level import level_dbfs
from edge.inference.ring import Ring
from edge.inference.windows import windows_of
from edge.types import FloatArray

# Full scale is 1. Beyond about 1e15 the power spectrum overflows float32.
_PEAK_LIMIT = 1e12
_HOP_SECONDS_LIMIT = 1e9
# Largest piece of a chunk that is processed at a time, in hops of the front end.
_PIECE_FRAMES = 32


@dataclass(frozen=True, eq=False)
class Classification:
    """The model's outputs for one window, with its times and level.

    Args:
        start_seconds: start of the window in the stream.
        end_seconds: end of the window, or of the stream if that is earlier.
        scores: one score per label, float32, shape (labels,).
        embedding: the window's audio embedding, float32, shape (embedding_dim,).
        labels: class names in the order of `scores` and `cosines`.
        cosines: cosine similarity to each label's text, float32, shape (labels,); see
            `BundleContract.exclusive` for how the scores follow from them.
        level_dbfs: RMS level of the window's own samples in dBFS, at least -120.
        gated: whether the window was too quiet to run the model: scores and embedding are then
            all 0, cosines all -1.
    """

    start_seconds: float
    end_seconds: float
    scores: FloatArray
    embedding: FloatArray
    labels: tuple[str, ...]
    cosines: FloatArray
    level_dbfs: float
    gated: bool = False

    def top(self, n: int) -> list[tuple[str, float]]:
        """The `n` best labels with their scores, best first."""
        best = np.argsort(-self.scores, kind="stable")[:n]
        return [(self.labels[index], float(self.scores[index])) for index in best]

    def to_json(self, top: int = 3) -> dict[str, Any]:
        """Plain values: times, level, the `top` best labels, and all scores by label."""
        return {
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "level_dbfs": round(self.level_dbfs, 2),
            "gated": self.gated,
            "top": [{"label": label, "score": round(score, 6)} for label, score in self.top(top)],
            "scores": {
                label: round(float(score), 6)
                for label, score in zip(self.labels, self.scores, strict=True)
            },
        }


class StreamingClassifier:
    """Classifies overlapping windows of a stream that arrives in chunks of any size.

    Window k contains the log-mel frames `[k * hop_frames, k * hop_frames + num_frames)` of the
    complete stream (a bundle of another kind: the samples from `k * hop_frames * hop_length` on).
    So the result does not depend on the chunks and equals that of the complete file. A log-mel
    window is classified `n_fft // 2` samples after its end, when its last frame is complete. The
    tagger of a bundle hears each of its own windows once, however the windows overlap.

    The end of the stream is never lost: if it lies beyond the last window, `flush` adds a window
    that ends with it. A stream shorter than a window is repeated until it fills one, as in
    training.

    Args:
        model: path of a bundle, or an `Interpreter`.
        hop_seconds: time between the starts of two windows, rounded to whole log-mel frames, or
            to whole hops of a bundle's tagger; at least one. A hop above the window length leaves
            gaps.
        num_threads: CPU threads of the graph; used only if `model` is a path.
        gate_dbfs: level below which the model does not run on a window; None runs it on all.

    Attributes:
        contract: the bundle's contract.
        front_end: its front end; chunks must have the rate `front_end.sample_rate_hz`.
        labels: its class names.
        hop_seconds: the hop after rounding.

    Raises:
        BundleError: if the bundle cannot be used.
        ValueError: if `hop_seconds` is not a positive number, or `gate_dbfs` is NaN.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Interpreter,
        hop_seconds: float = 1.0,
        num_threads: int = 1,
        gate_dbfs: float | None = None,
    ) -> None:
        if not 0 < hop_seconds < _HOP_SECONDS_LIMIT:
            raise ValueError(f"`hop_seconds` must be positive and finite. Received: {hop_seconds}.")
        if gate_dbfs is not None and math.isnan(gate_dbfs):
            raise ValueError("`gate_dbfs` must be a level in decibels. Received: nan.")
        if not isinstance(model, Interpreter):
            model = Interpreter(model, num_threads)
        self._interpreter = model
        self.contract: BundleContract = model.contract
        self.front_end: FrontEnd = model.contract.front_end
        self.labels = model.contract.labels
        self._gate_dbfs = -math.inf if gate_dbfs is None else gate_dbfs
        hop_length, window_samples = self.front_end.hop_length, self.front_end.window_samples
        unit = self.contract.tagger.hop_samples if self.contract.tagger else hop_length
        rate_hz = self.front_end.sample_rate_hz
        self._hop_samples = max(1, round(hop_seconds * rate_hz / unit)) * unit
        self.hop_seconds = self._hop_samples / rate_hz

        # Chunks are processed in pieces, which bounds the buffers.
        self._piece_samples = _PIECE_FRAMES * hop_length
        kept_samples = window_samples + self.front_end.n_fft + self._piece_samples
        self._samples = Ring(kept_samples, np.float32)
        self._windows = windows_of(self.contract, self._samples, self._piece_samples, model.tagger)
        self.reset()

    def reset(self) -> None:
        """Drop the stream; the next chunk starts a new one at 0 s."""
        self._origin_samples = 0
        self._restart()

    def push(self, chunk: FloatArray) -> list[Classification]:
        """Add the next samples and classify the windows they complete.

        Args:
            chunk: float32 samples, full scale 1, mono, at the bundle's rate, shape (samples,),
                possibly empty.

        Returns:
            The classifications of the windows now complete, in order.

        Raises:
            RuntimeError: if the model fails; the rest of the chunk is lost.
            ValueError: if the chunk has the wrong shape or dtype or contains NaN or infinity. The
                entire chunk is then ignored, and the stream can continue.
        """
        _check_chunk(chunk)
        result = []
        for start in range(0, chunk.size, self._piece_samples):
            self._samples.append(chunk[start : start + self._piece_samples])
            self._windows.prepare(self._next_start)
            result += self._complete_windows()
        return result

    def skip(self, seconds: float) -> None:
        """Skip sound that is missing from the stream.

        The stream's time advances; the next window starts with the next sample, as in a new
        stream, and no window spans the gap.

        Args:
            seconds: length of the gap, rounded to whole samples.

        Raises:
            ValueError: if `seconds` is negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"`seconds` must be finite and not negative. Received: {seconds}.")
        missing_samples = round(seconds * self.front_end.sample_rate_hz)
        self._origin_samples += self._samples.seen + missing_samples
        self._restart()

    def flush(self) -> list[Classification]:
        """End the stream, classify the rest of it, and reset.

        Returns:
            The remaining classifications; an empty list if there are no samples since the start
            or the last gap.
        """
        try:
            if self._samples.seen == 0:
                return []
            if self._samples.seen < self.front_end.window_samples:
                return [self._classify_short()]
            self._windows.end()
            result = self._complete_windows()
            start = self._windows.last_start()
            if start > self._next_start - self._hop_samples:
                result.append(self._classify(start))
            return result
        finally:
            self.reset()

    def _restart(self) -> None:
        """Drop all samples; the next one is the first of a window."""
        self._next_start = 0
        self._samples.reset()
        self._windows.reset()

    def _complete_windows(self) -> list[Classification]:
        result = []
        while self._windows.is_complete(self._next_start):
            start, self._next_start = self._next_start, self._next_start + self._hop_samples
            result.append(self._classify(start))
        return result

    def _classify(self, start: int) -> Classification:
        """Classify the window from sample `start` on."""
        end = min(start + self.front_end.window_samples, self._samples.seen)
        samples = self._samples.rows(start, end)
        return self._classification(start, samples, lambda: self._windows.window(start))

    def _classify_short(self) -> Classification:
        """Classify a stream shorter than a window, repeated until it fills one."""
        samples = self._samples.rows(0, self._samples.seen)
        repeated = np.resize(samples, self.front_end.window_samples)
        return self._classification(0, samples, lambda: self._windows.of(repeated))

    def _classification(
        self, start: int, samples: FloatArray, window: Callable[[], FloatArray]
    ) -> Classification:
        level = level_dbfs(samples)
        gated = level < self._gate_dbfs
        prediction = self._silence() if gated else self._interpreter.run(window())
        start += self._origin_samples
        rate = self.front_end.sample_rate_hz
        return Classification(
            start_seconds=start / rate,
            end_seconds=(start + samples.size) / rate,
            scores=prediction.scores,
            embedding=prediction.embedding,
            labels=self.labels,
            cosines=prediction.cosines,
            level_dbfs=level,
            gated=gated,
        )

    def _silence(self) -> Prediction:
        """The prediction for a gated window."""
        num_labels = len(self.labels)
        return Prediction(
            scores=np.zeros(num_labels, np.float32),
            cosines=np.full(num_labels, -1.0, np.float32),
            embedding=np.zeros(self.contract.embedding_dim, np.float32),
        )


def _check_chunk(chunk: FloatArray) -> None:
    if not isinstance(chunk, np.ndarray) or chunk.dtype != np.float32 or chunk.ndim != 1:
        received = (
            f"{chunk.dtype} {chunk.shape}"
            if isinstance(chunk, np.ndarray)
            else type(chunk).__name__
        )
        raise ValueError(f"a chunk must be a float32 array (samples,). Received: {received}.")
    peak = max(chunk.max(initial=0.0), -chunk.min(initial=0.0))
    if not peak <= _PEAK_LIMIT:
        raise ValueError(
            f"samples must be finite, with full scale at 1. Received: a peak of {peak}."
        )
