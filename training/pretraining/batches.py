"""Batches of crops with a teacher's targets, prepared by threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray, IntArray
from training.learning.batches import prepared
from training.pretraining.spectra import Surroundings, surround, to_decibels, to_power
from training.pretraining.teacher import Grid, Heard, Targets


class Batch(NamedTuple):
    """Crops and their targets.

    Args:
        log_mels: float32 decibels (B, frames, mels).
        scores: float32 (B, W, K) in [0, 1], of each window of the teacher.
        embeddings: float32 (B, W, D).
        heard: float32 (B, W), 1 where the teacher heard exactly this window, without a mixture.
        scored: float32 (B, W), 1 where the scores apply.
    """

    log_mels: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    heard: FloatArray
    scored: FloatArray


@dataclass(frozen=True)
class Mixing:
    """How crops are drawn and mixed.

    Args:
        mixed: probability of mixing a crop with another.
        mixed_db: largest difference of the two levels, in dB.
        balance: exponent of a class's rarity: 0 draws windows as they come, 1 draws the classes
            that a window is most like equally often.
        spread: largest factor by which a rare class is drawn more often.
    """

    mixed: float = 0.5
    mixed_db: float = 10.0
    balance: float = 0.5
    spread: float = 100.0


class CropBatches:
    """Endless batches that depend only on the seed and the batch number.

    A crop is a window of the student, aligned to the windows of the teacher. A recording that is
    shorter than that lies somewhere in it, in silence.

    Args:
        targets: log-mels and targets of all recordings.
        recordings: indices of the recordings to draw from, (n,).
        front_end: front end of the student.
        batch_size: crops per batch.
        seed: seed of every draw.
        mixing: how crops are drawn and mixed.
        surroundings: what lies between a sound and the student; None is nothing.
    """

    def __init__(
        self,
        targets: Targets,
        recordings: IntArray,
        front_end: FrontEnd,
        batch_size: int,
        seed: int = 0,
        mixing: Mixing | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.targets = targets
        self.front_end = front_end
        self.batch_size = batch_size
        self.seed = seed
        self.mixing = mixing
        self.surroundings = surroundings
        self._windows = windows_of(targets, recordings)
        self._chances = np.cumsum(self._weights()) if mixing else None

    @property
    def num_windows(self) -> int:
        """The teacher's windows in a crop, W."""
        return self.targets.grid.windows_in(self.front_end.window_seconds)

    def _weights(self) -> FloatArray:
        """Return the weight of each window: windows of a rare class weigh more."""
        assert self.mixing is not None
        best = np.array([self.targets[i].scores[j].argmax() for i, j in self._windows])
        counts = np.bincount(best)
        weights = counts[best] ** -float(self.mixing.balance)
        weights = np.minimum(weights, self.mixing.spread * weights.min())
        return weights / weights.sum()

    def batch(self, number: int) -> Batch:
        """Return a batch, numbered from the start of training."""
        rng = np.random.default_rng([self.seed, number])
        assert self._chances is not None
        draws = np.searchsorted(self._chances, rng.random(2 * self.batch_size))
        draws = np.minimum(draws, len(self._windows) - 1)
        crops = [self._drawn(i, rng) for i in draws[: self.batch_size]]
        others = iter(draws[self.batch_size :])
        return _stack([self._finish(crop, next(others), rng) for crop in crops])

    def generate(self, first: int = 0) -> Iterator[Batch]:
        """Yield batches in order from a number, preparing a few ahead."""
        return prepared(self.batch, first)

    def _drawn(self, window: int, rng: np.random.Generator) -> "_Crop":
        """Return a random crop that holds a window of the teacher."""
        index, j = self._windows[window]
        heard, grid = self.targets[int(index)], self.targets.grid
        spare = self.num_windows - len(heard.scores)
        if spare < 0:
            first = int(j) - int(rng.integers(self.num_windows))
            return crop_of(heard, min(max(first, 0), -spare), self.front_end, grid)
        return crop_of(heard, -int(rng.integers(spare + 1)), self.front_end, grid)

    def _finish(self, crop: "_Crop", other: int, rng: np.random.Generator) -> "_Crop":
        assert self.mixing is not None
        power, scores, embeddings, heard, scored = crop
        if rng.random() < self.mixing.mixed:
            second = self._drawn(other, rng)
            difference_db = rng.uniform(-self.mixing.mixed_db, self.mixing.mixed_db)
            difference_db += 10.0 * np.log10(_mean(power) / _mean(second.power))
            power = power + second.power * np.float32(10.0 ** (difference_db / 10.0))
            scores = np.maximum(scores, second.scores)
            scored = np.maximum(scored, second.scored)
            heard = np.zeros_like(heard)
        if self.surroundings is not None:
            power = surround(power, self.front_end, self.surroundings, rng)
        return _Crop(to_decibels(power, self.front_end), scores, embeddings, heard, scored)


class _Crop(NamedTuple):
    power: FloatArray  # decibels once finished
    scores: FloatArray
    embeddings: FloatArray
    heard: FloatArray
    scored: FloatArray


def windows_of(targets: Targets, recordings: IntArray) -> IntArray:
    """Return recording and number of each window of the recordings, (n, 2)."""
    rows = [np.stack([np.full(n, i), np.arange(n)], 1) for i, n in _counts(targets, recordings)]
    return np.concatenate(rows) if rows else np.zeros((0, 2), np.int64)


def crop_of(heard: Heard, first: int, front_end: FrontEnd, grid: Grid) -> "_Crop":
    """Cut a crop out of a recording, or place the recording into it.

    Args:
        heard: the recording.
        first: its window that starts the crop; -n lets it start n windows later.
        front_end: front end of the student.
        grid: times of the teacher's windows.
    """
    frames, hop_frames = front_end.num_frames, grid.hop_frames
    num_windows = grid.windows_in(front_end.window_seconds)
    power = np.zeros((frames, front_end.num_mels), np.float32)
    start = max(0, -first) * hop_frames
    source = to_power(heard.log_mels[max(0, first) * hop_frames :][: frames - start])
    power[start : start + len(source)] = source
    shape = (num_windows, heard.scores.shape[1])
    scores = np.zeros(shape, np.float32)
    embeddings = np.zeros((num_windows, heard.embeddings.shape[1]), np.float32)
    known = np.zeros(num_windows, np.float32)
    at = max(0, -first)
    rows = heard.scores[max(0, first) :][: num_windows - at]
    scores[at : at + len(rows)] = rows
    embeddings[at : at + len(rows)] = heard.embeddings[max(0, first) :][: len(rows)]
    known[at : at + len(rows)] = 1.0
    return _Crop(power, scores, embeddings, known, known)


def _counts(targets: Targets, recordings: IntArray) -> Iterator[tuple[int, int]]:
    for i in recordings:
        yield int(i), int(targets.num_windows[i])


def _mean(power: FloatArray) -> float:
    return max(float(power.mean()), 1e-12)


def _stack(crops: Sequence[_Crop]) -> Batch:
    return Batch(*(np.stack(values).astype(np.float32) for values in zip(*crops, strict=True)))
