"""Batches of augmented clips, prepared by threads ahead of the accelerator."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, repeat
from typing import TypeVar

import numpy as np

from edge.inference.frontend import FrontEnd, log_mel
from edge.types import FloatArray, IntArray
from training.learning.augment import Augmentation, augment, draw_mixtures, mix

Batch = tuple[FloatArray, FloatArray]
_Made = TypeVar("_Made")

_THREADS = 2
_AHEAD = 4


class TrainingBatches:
    """Endless batches that depend only on the seed and the batch number.

    Thread timing therefore changes nothing, and a resumed run continues exactly where it stopped.
    Each epoch is a new permutation and drops its last, incomplete batch.

    Args:
        waveforms: clips, float32 (samples,) each, at the model's rate.
        labels: label of each clip, (n,).
        num_labels: number of labels, K.
        batch_size: clips per batch; all clips if there are fewer.
        window_samples: length of a training window.
        augmentation: changes to each clip.
        seed: seed of the order and of the augmentation.
        front_end: computes the log-mels here, on the host. None passes waveforms to the model,
            which suits an accelerator.
    """

    def __init__(
        self,
        waveforms: Sequence[FloatArray],
        labels: IntArray,
        num_labels: int,
        batch_size: int,
        window_samples: int,
        augmentation: Augmentation,
        seed: int,
        front_end: FrontEnd | None = None,
    ) -> None:
        self.front_end = front_end
        self.waveforms = waveforms
        self.shares = one_hot(labels, num_labels)
        self.batch_size = min(batch_size, len(waveforms))
        self.window_samples = window_samples
        self.augmentation = augmentation
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of complete batches in an epoch."""
        return len(self.waveforms) // self.batch_size

    def batch(self, number: int) -> Batch:
        """Return a batch, numbered from the start of training: inputs and label shares (B, K)."""
        _, chosen = self.choose(number)
        rng = np.random.default_rng([self.seed, 1, number])
        waveforms = self._augmented(chosen, repeat(rng))
        waveforms, shares = mix(waveforms, self.shares[chosen], self.augmentation.mixup, rng)
        return self.inputs(waveforms), shares

    def inputs(self, waveforms: FloatArray) -> FloatArray:
        """Return the model's inputs: waveforms (B, samples) or their log-mels (B, frames, mels)."""
        return waveforms if self.front_end is None else log_mels(waveforms, self.front_end)

    def choose(self, number: int) -> tuple[int, IntArray]:
        """Return the epoch of batch `number` and the indices of its clips, (B,)."""
        epoch, step = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.waveforms))
        return epoch, order[step * self.batch_size : (step + 1) * self.batch_size]

    def view(self, number: int, clips: IntArray) -> Batch:
        """Return reproducible examples of the given clips.

        Args:
            number: number of the view; each view pairs the clips differently for mixup.
            clips: indices of the clips, (B,).

        Returns:
            Waveforms (B, samples) and label shares (B, K).
        """

        def augmented(clips: IntArray) -> FloatArray:
            return self._augmented(
                clips, (np.random.default_rng([self.seed, 2, number, int(i)]) for i in clips)
            )

        if self.augmentation.mixup <= 0.0:
            return augmented(clips), self.shares[clips]
        rng = np.random.default_rng([self.seed, 3, number])
        kept, other = draw_mixtures(len(self.waveforms), self.augmentation.mixup, rng)
        kept, other = kept[clips], other[clips]
        return (
            kept * augmented(clips) + (1.0 - kept) * augmented(other),
            kept * self.shares[clips] + (1.0 - kept) * self.shares[other],
        )

    def _augmented(self, clips: IntArray, streams: Iterable[np.random.Generator]) -> FloatArray:
        """Return a window of each clip, (B, samples), each from its own random stream."""
        size, how = self.window_samples, self.augmentation
        pairs = zip(clips, streams, strict=False)
        return np.stack([augment(self.waveforms[i], size, how, rng) for i, rng in pairs])

    def generate(self, first_epoch: int = 0) -> Iterator[Batch]:
        """Yield batches in order from the start of an epoch, preparing a few ahead."""
        return made_ahead(self.batch, first_epoch * self.steps_per_epoch)


def made_ahead(make: Callable[[int], _Made], first: int) -> Iterator[_Made]:
    """Yield `make(first)`, `make(first + 1)`, ..., preparing a few ahead in threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[_Made]] = deque()
        try:
            for number in count(first):
                ahead.append(pool.submit(make, number))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def log_mels(waveforms: FloatArray, front_end: FrontEnd) -> FloatArray:
    """Compute the log-mels (B, frames, mels) of waveforms (B, samples)."""
    return np.stack([log_mel(waveform, front_end) for waveform in waveforms])


def one_hot(labels: IntArray, num_labels: int) -> FloatArray:
    """Return the label shares (n, K) of integer labels (n,)."""
    return np.eye(num_labels, dtype=np.float32)[labels]
