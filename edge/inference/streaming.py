"""A stream of samples in, one classification for every window out."""

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.inference.bundle import BundleContract
from edge.inference.frontend import FrontEnd, StreamingLogMel, log_mel
from edge.inference.interpreter import Interpreter, Prediction
from edge.inference.level import level_dbfs
from edge.inference.ring import Ring
from edge.types import FloatArray

# Full scale is 1. Beyond about 1e15 the power spectrum overflows float32.
_PEAK_LIMIT = 1e12
_HOP_SECONDS_LIMIT = 1e9
# Log-mel frames' worth of samples that are taken at once.
_PIECE_FRAMES = 32


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
        level_dbfs: RMS level of the window's own samples, decibels below full scale, at least
            -120.
        gated: the window was too quiet to run the model: scores and embedding are all 0, cosines
            all -1.
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
        gate_dbfs: level below which a window is not worth running the model; none by default.

    Attributes:
        contract: the bundle's contract.
        front_end: its front end; chunks must come at `front_end.sample_rate_hz`.
        labels: its class names.
        hop_seconds: the hop after rounding.

    Raises:
        BundleError: if the bundle cannot be used.
        ValueError: if `hop_seconds` is not a positive number, or `gate_dbfs` no number.
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
        hop_frames = max(1, round(hop_seconds * self.front_end.frames_per_second))
        self.hop_seconds = hop_frames * hop_length / self.front_end.sample_rate_hz

        # Chunks are taken in pieces, so that what must be kept of them has a bound.
        self._piece_samples = _PIECE_FRAMES * hop_length
        kept_samples = window_samples + self.front_end.n_fft + self._piece_samples
        self._samples = Ring(kept_samples, np.float32)
        # What the model takes a window of: log-mel frames, or the samples themselves.
        self._log_mel: StreamingLogMel | None = None
        self._rows, self._row_samples = self._samples, 1
        self._window_rows = self.contract.input_shape[1]
        if self.contract.inputs == "log_mel":
            self._log_mel = StreamingLogMel(self.front_end)
            kept_frames = self.front_end.frames_in(kept_samples)
            self._rows = Ring(kept_frames, np.float32, (self.front_end.num_mels,))
            self._row_samples = hop_length
        self._hop_rows = hop_frames * hop_length // self._row_samples
        self._heard_samples = 0  # what the log-mel has had
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next chunk starts a new one at 0 s."""
        self._origin_samples = 0
        self._restart()

    def push(self, chunk: FloatArray) -> list[Classification]:
        """Take the next samples and classify the windows they complete.

        Args:
            chunk: float32 samples, full scale 1, mono, at the bundle's rate, shape (samples,);
                any number of them, also none.

        Returns:
            The classifications of the windows now complete, in order.

        Raises:
            RuntimeError: if the model fails; the rest of the chunk is lost.
            ValueError: if the chunk has another shape or dtype or holds NaN or infinity. It is
                then ignored as a whole, and the stream can go on.
        """
        _check_chunk(chunk)
        result = []
        for start in range(0, chunk.size, self._piece_samples):
            self._samples.append(chunk[start : start + self._piece_samples])
            self._update_frames(defer=True)
            result += self._complete_windows()
        return result

    def skip(self, seconds: float) -> None:
        """Leave out sound that is missing from the stream.

        The stream's time goes on; the next window starts with the next sample, as in a new
        stream, and none spans the gap.

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
        """End the stream, classify what is left of it, and reset.

        Returns:
            The classifications still owed; none for a stream, or the part of it after a gap,
            without samples.
        """
        try:
            if self._samples.seen == 0:
                return []
            if self._samples.seen < self.front_end.window_samples:
                return [self._classify_short()]
            if self._log_mel:
                self._update_frames()
                self._rows.append(self._log_mel.flush())
            result = self._complete_windows()
            last_end_row = self._next_row - self._hop_rows + self._window_rows
            if self._rows.seen > last_end_row:
                result.append(self._classify(self._rows.seen - self._window_rows))
            return result
        finally:
            self.reset()

    def _update_frames(self, defer: bool = False) -> None:
        """Make the log-mel frames of the samples that have come.

        Many frames at once take less time than few, so they may wait for a piece, or a window.
        """
        if self._log_mel is None:
            return
        seen, front_end = self._samples.seen, self.front_end
        last_row = self._next_row + self._window_rows - 1
        is_due = seen >= last_row * front_end.hop_length + front_end.n_fft // 2
        if is_due or not defer or seen - self._heard_samples >= self._piece_samples:
            self._rows.append(self._log_mel.push(self._samples.rows(self._heard_samples, seen)))
            self._heard_samples = seen

    def _restart(self) -> None:
        """Forget all samples; the next one is the first of a window."""
        self._next_row = 0
        self._heard_samples = 0
        self._samples.reset()
        self._rows.reset()
        if self._log_mel:
            self._log_mel.reset()

    def _complete_windows(self) -> list[Classification]:
        result = []
        while self._next_row + self._window_rows <= self._rows.seen:
            row, self._next_row = self._next_row, self._next_row + self._hop_rows
            result.append(self._classify(row))
        return result

    def _classify(self, row: int) -> Classification:
        """Classify the window that starts with that row."""
        start = row * self._row_samples
        end = min(start + self.front_end.window_samples, self._samples.seen)
        window = self._rows.rows(row, row + self._window_rows)
        return self._classification(start, self._samples.rows(start, end), window)

    def _classify_short(self) -> Classification:
        """Repeat a stream that never filled a window."""
        samples = self._samples.rows(0, self._samples.seen)
        repeated = np.resize(samples, self.front_end.window_samples)
        window = log_mel(repeated, self.front_end) if self._log_mel else repeated
        return self._classification(0, samples, window)

    def _classification(
        self, start: int, samples: FloatArray, window: FloatArray
    ) -> Classification:
        level = level_dbfs(samples)
        gated = level < self._gate_dbfs
        prediction = self._silence() if gated else self._interpreter.run(window)
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
        """What is said of a window in place of the model."""
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
