"""A stream of samples in, one classification for every window out."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.bundle import BundleContract
from edge.frontend import FloatArray, FrontEnd, StreamingLogMel, log_mel
from edge.interpreter import Interpreter
from edge.ring import Ring

# Full scale is 1. Beyond about 1e15 the power spectrum overflows float32.
_PEAK_LIMIT = 1e12
_HOP_SECONDS_LIMIT = 1e9


@dataclass(frozen=True, eq=False)
class Classification:
    """What the model says about one window.

    Args:
        start_seconds: start of the window in the stream.
        end_seconds: its end; the end of the stream where that comes first.
        scores: one score for each label, float32, shape (labels,).
        embedding: the window's audio embedding, float32, shape (embedding_dim,).
        labels: class names in the order of `scores` and `cosines`.
        cosines: cosine similarity to each label's text, float32, shape (labels,); the scores are
            their scaled softmax.
    """

    start_seconds: float
    end_seconds: float
    scores: FloatArray
    embedding: FloatArray
    labels: tuple[str, ...]
    cosines: FloatArray

    def top(self, n: int) -> list[tuple[str, float]]:
        """The `n` best labels with their scores, best first."""
        best = np.argsort(-self.scores, kind="stable")[:n]
        return [(self.labels[index], float(self.scores[index])) for index in best]

    def to_json(self, top: int = 3) -> dict[str, Any]:
        """Plain values: the times, the `top` best labels, and all scores by label."""
        return {
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "top": [{"label": label, "score": round(score, 6)} for label, score in self.top(top)],
            "scores": {
                label: round(float(score), 6)
                for label, score in zip(self.labels, self.scores, strict=True)
            },
        }


class StreamingClassifier:
    """Classifies overlapping windows of a stream that arrives in chunks of any size.

    Window k sees the log-mel frames `[k * hop_frames, k * hop_frames + num_frames)` of the whole
    stream (a waveform bundle: the samples from `k * hop_frames * hop_length` on), so the result
    does not depend on the chunks and equals that of the file at once. A log-mel window comes out
    `n_fft // 2` samples after its end, when its last frame is complete.

    The end of the stream is never lost: if it lies beyond the last window, `flush` adds a window
    that ends with it. A stream shorter than a window is repeated until it fills one, as in
    training.

    Args:
        model: path of a bundle, or an `Interpreter` that holds one.
        hop_seconds: time between the starts of two windows, rounded to whole log-mel frames
            (at least one) for both kinds of bundle. Above the window's length it leaves gaps.
        num_threads: CPU threads of the graph; used only where `model` is a path.

    Attributes:
        contract: the bundle's contract.
        front_end: its front end; chunks must come at `front_end.sample_rate_hz`.
        labels: its class names.
        hop_seconds: the hop after rounding.

    Raises:
        BundleError: if the bundle cannot be used.
        ValueError: if `hop_seconds` is not a positive number.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Interpreter,
        hop_seconds: float = 1.0,
        num_threads: int = 1,
    ) -> None:
        if not 0 < hop_seconds < _HOP_SECONDS_LIMIT:
            raise ValueError(f"`hop_seconds` must be positive and finite. Received: {hop_seconds}.")
        if not isinstance(model, Interpreter):
            model = Interpreter(model, num_threads)
        self._interpreter = model
        self.contract: BundleContract = model.contract
        self.front_end: FrontEnd = model.contract.front_end
        self.labels = model.contract.labels
        hop_frames = max(1, round(hop_seconds * self.front_end.frames_per_second))
        hop_samples = hop_frames * self.front_end.hop_length
        self.hop_seconds = hop_samples / self.front_end.sample_rate_hz

        # What the model takes a window of: log-mel frames, or the samples themselves.
        self._log_mel: StreamingLogMel | None = None
        if self.contract.inputs == "log_mel":
            self._log_mel = StreamingLogMel(self.front_end)
        self._hop_rows = hop_frames if self._log_mel else hop_samples
        self._row_samples = self.front_end.hop_length if self._log_mel else 1
        window_rows, *row_shape = self.contract.input_shape[1:]
        self._ring = Ring(window_rows, tuple(row_shape))
        # The first window's samples, to repeat should no more of them come.
        self._head = np.zeros(self.front_end.window_samples, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next chunk starts a new one at 0 s."""
        self._seen_samples = 0
        self._next_end_row = self._ring.size
        self._ring.reset()
        if self._log_mel:
            self._log_mel.reset()

    def push(self, chunk: FloatArray) -> list[Classification]:
        """Take the next samples and classify the windows they complete.

        Args:
            chunk: float32 samples, full scale 1, mono, at the bundle's rate, shape (samples,);
                any number of them, also none.

        Returns:
            The classifications of the windows now complete, in order.

        Raises:
            ValueError: if the chunk has another shape or dtype or holds NaN or infinity. It is
                then ignored as a whole, and the stream can go on.
        """
        _check_chunk(chunk)
        head = self._head[self._seen_samples :]
        head[: len(chunk)] = chunk[: len(head)]
        self._seen_samples += len(chunk)
        return self._take(self._log_mel.push(chunk) if self._log_mel else chunk)

    def flush(self) -> list[Classification]:
        """End the stream, classify what is left of it, and reset.

        Returns:
            The classifications still owed; none for a stream without samples.
        """
        try:
            if self._seen_samples == 0:
                return []
            if self._seen_samples < self._head.size:
                return [self._classify_short()]
            result = self._take(self._log_mel.flush()) if self._log_mel else []
            if self._ring.seen > self._next_end_row - self._hop_rows:
                result.append(self._classify(self._ring.window(), self._ring.seen))
            return result
        finally:
            self.reset()

    def _take(self, rows: FloatArray) -> list[Classification]:
        """Fill the ring window by window."""
        result = []
        while len(rows):
            missing = self._next_end_row - self._ring.seen
            self._ring.append(rows[:missing])
            rows = rows[missing:]
            if self._ring.seen == self._next_end_row:
                result.append(self._classify(self._ring.window(), self._next_end_row))
                self._next_end_row += self._hop_rows
        return result

    def _classify_short(self) -> Classification:
        """Repeat a stream that never filled a window."""
        repeated = np.resize(self._head[: self._seen_samples], self._head.size)
        window = log_mel(repeated, self.front_end) if self._log_mel else repeated
        return self._classify(window, self._ring.size)

    def _classify(self, window: FloatArray, end_row: int) -> Classification:
        scores, cosines, embedding = self._interpreter.run(window)
        start = (end_row - self._ring.size) * self._row_samples
        end = min(start + self.front_end.window_samples, self._seen_samples)
        rate = self.front_end.sample_rate_hz
        return Classification(start / rate, end / rate, scores, embedding, self.labels, cosines)


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
