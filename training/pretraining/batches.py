"""Batches of crops with the targets of teachers, prepared by threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray, IntArray
from training.learning.batches import prepared
from training.pretraining.spectra import Surroundings, surround, to_decibels, to_power
from training.pretraining.teacher import Grid, Heard, Targets


class Answers(NamedTuple):
    """Answers of one teacher to B crops; to one crop without the first axis.

    Args:
        scores: float32 (B, W, K) in [0, 1], of each window of the teacher.
        embeddings: float32 (B, W, D).
        heard: float32 (B, W), 1 where the teacher heard exactly this window, without a mixture.
        scored: float32 (B, W), 1 where the scores apply.
    """

    scores: FloatArray
    embeddings: FloatArray
    heard: FloatArray
    scored: FloatArray


class Batch(NamedTuple):
    """Crops and the answers of each teacher.

    Args:
        log_mels: float32 decibels (B, frames, mels).
        answers: of each teacher.
    """

    log_mels: FloatArray
    answers: tuple[Answers, ...]


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

    A crop is a window of the student, aligned to the windows of the last teacher, whose hop must be
    a multiple of the others'. A recording that is shorter than that lies somewhere in it, in
    silence.

    Args:
        teachers: targets of all recordings, of each teacher by increasing hop.
        recordings: indices of the recordings to draw from, (n,).
        front_end: front end of the student.
        batch_size: crops per batch.
        seed: seed of every draw.
        mixing: how crops are drawn and mixed.
        surroundings: what lies between a sound and the student; None is nothing.
    """

    def __init__(
        self,
        teachers: Sequence[Targets],
        recordings: IntArray,
        front_end: FrontEnd,
        batch_size: int,
        seed: int = 0,
        mixing: Mixing | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.teachers = tuple(teachers)
        self.front_end = front_end
        self.batch_size = batch_size
        self.seed = seed
        self.mixing = mixing
        self.surroundings = surroundings
        self._windows = windows_of(self.teachers[-1], recordings)
        self._chances = np.cumsum(self._weights()) if mixing else None

    def _weights(self) -> FloatArray:
        """Return the weight of each window: windows of a rare class weigh more."""
        assert self.mixing is not None
        targets = self.teachers[-1]
        best = np.array([targets[i].scores[j].argmax() for i, j in self._windows])
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
        """Return a random crop that holds a window of the last teacher."""
        index, j = (int(value) for value in self._windows[window])
        seconds = self.front_end.window_seconds
        spare = self.teachers[0].spare_windows(index, seconds)
        if spare >= 0:  # place it by the shortest hop
            start = -int(rng.integers(spare + 1)) * self.teachers[0].grid.hop_frames
        else:
            grid = self.teachers[-1].grid
            first = max(j - int(rng.integers(grid.windows_in(seconds))), 0)
            last = max(0, -self.teachers[-1].spare_windows(index, seconds))
            start = min(first, last) * grid.hop_frames
        return crop_of(self.teachers, index, start, self.front_end)

    def _finish(self, crop: "_Crop", other: int, rng: np.random.Generator) -> "_Crop":
        assert self.mixing is not None
        power, answers = crop
        if rng.random() < self.mixing.mixed:
            second = self._drawn(other, rng)
            difference_db = rng.uniform(-self.mixing.mixed_db, self.mixing.mixed_db)
            difference_db += 10.0 * np.log10(_mean(power) / _mean(second.power))
            power = power + second.power * np.float32(10.0 ** (difference_db / 10.0))
            pairs = zip(answers, second.answers, strict=True)
            answers = tuple(
                Answers(
                    np.maximum(one.scores, other.scores),
                    one.embeddings,
                    np.zeros_like(one.heard),
                    np.maximum(one.scored, other.scored),
                )
                for one, other in pairs
            )
        if self.surroundings is not None:
            power = surround(power, self.front_end, self.surroundings, rng)
        return _Crop(to_decibels(power, self.front_end), answers)


class _Crop(NamedTuple):
    power: FloatArray  # decibels once finished
    answers: tuple[Answers, ...]


def windows_of(targets: Targets, recordings: IntArray) -> IntArray:
    """Return recording and number of each window of the recordings, (n, 2)."""
    rows = [np.stack([np.full(n, i), np.arange(n)], 1) for i, n in _counts(targets, recordings)]
    return np.concatenate(rows) if rows else np.zeros((0, 2), np.int64)


def crop_of(teachers: Sequence[Targets], index: int, start: int, front_end: FrontEnd) -> "_Crop":
    """Cut a crop out of a recording, or place the recording into it.

    Args:
        teachers: targets of each teacher.
        index: the recording.
        start: its frame that starts the crop; -n lets it start n frames later. A multiple of each
            teacher's hop.
        front_end: front end of the student.
    """
    frames = front_end.num_frames
    power = np.zeros((frames, front_end.num_mels), np.float32)
    later = max(0, -start)
    source = to_power(teachers[0][index].log_mels[max(0, start) :][: frames - later])
    power[later : later + len(source)] = source
    answers = (_answers(each[index], start, each.grid, front_end) for each in teachers)
    return _Crop(power, tuple(answers))


def _answers(heard: Heard, start: int, grid: Grid, front_end: FrontEnd) -> Answers:
    """Return the answers to the windows of a crop that starts at a frame of a recording."""
    num_windows = grid.windows_in(front_end.window_seconds)
    first = start // grid.hop_frames
    # A window as long as the crop moves with a short recording; no other window is left for it.
    at = min(max(0, -first), num_windows - 1)
    scores = np.zeros((num_windows, heard.scores.shape[1]), np.float32)
    embeddings = np.zeros((num_windows, heard.embeddings.shape[1]), np.float32)
    known = np.zeros(num_windows, np.float32)
    rows = heard.scores[max(0, first) :][: num_windows - at]
    scores[at : at + len(rows)] = rows
    embeddings[at : at + len(rows)] = heard.embeddings[max(0, first) :][: len(rows)]
    known[at : at + len(rows)] = 1.0
    return Answers(scores, embeddings, known, known)


def _counts(targets: Targets, recordings: IntArray) -> Iterator[tuple[int, int]]:
    for i in recordings:
        yield int(i), int(targets.num_windows[i])


def _mean(power: FloatArray) -> float:
    return max(float(power.mean()), 1e-12)


def _stack(crops: Sequence[_Crop]) -> Batch:
    powers, answers = zip(*crops, strict=True)
    return Batch(
        np.stack(powers).astype(np.float32),
        tuple(
            Answers(*(np.stack(values) for values in zip(*of_teacher, strict=True)))
            for of_teacher in zip(*answers, strict=True)
        ),
    )
