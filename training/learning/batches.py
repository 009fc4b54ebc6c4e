"""Batches of augmented clips, prepared by threads ahead of the accelerator."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TypeVar

import numpy as np

from edge.inference.frontend import FrontEnd, log_mel
from edge.types import FloatArray, IntArray
from training.learning.augment import Augmentation, augment, mix

Batch = tuple[FloatArray, FloatArray]
T = TypeVar("T")
_THREADS = 2
_AHEAD = 4
# Log-mels that are kept from epoch to epoch: 256 MB.
_MAX_KEPT_VALUES = 1 << 26


class Batches(ABC):
    """Endless batches that depend only on the seed and the batch number.

    Thread timing therefore changes nothing, and a resumed run continues exactly where it stopped.
    Each epoch is a new permutation and drops its last, incomplete batch.

    Args:
        labels: label of each clip, (n,), or whether it has each label, (n, K).
        num_labels: number of labels, K.
        batch_size: clips per batch; all clips if there are fewer.
        seed: seed of the order and of changes to the clips.
        exclusive: whether a mixture has its labels by their shares; else it has all of them.
    """

    def __init__(
        self,
        labels: IntArray,
        num_labels: int,
        batch_size: int,
        seed: int,
        exclusive: bool = True,
    ) -> None:
        self.shares = label_shares(labels, num_labels)
        self.exclusive = exclusive
        self.batch_size = min(batch_size, len(labels))
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of complete batches in an epoch."""
        return len(self.shares) // self.batch_size

    def chosen(self, number: int) -> IntArray:
        """Return the indices (B,) of a batch's clips; batches are numbered as in `batch`."""
        epoch, step = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.shares))
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    @abstractmethod
    def batch(self, number: int) -> Batch:
        """Return a batch, numbered from the start of training: inputs and label shares (B, K)."""

    def generate(self, first_epoch: int = 0) -> Iterator[Batch]:
        """Yield batches in order from the start of an epoch, preparing a few ahead."""
        return prepared(self.batch, first_epoch * self.steps_per_epoch)


def prepared(batch: Callable[[int], T], first: int) -> Iterator[T]:
    """Yield batches in order, endlessly, while threads prepare a few ahead.

    Args:
        batch: returns a batch by its number; called in threads.
        first: number of the first batch.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for number in count(first):
                ahead.append(pool.submit(batch, number))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class EmbeddingBatches(Batches):
    """Batches of a tagger's embeddings.

    Args:
        embeddings: float32 (n, T, D).
        labels: label of each, (n,), or whether it has each label, (n, K).
        num_labels: number of labels, K.
        batch_size: rows per batch; all rows if there are fewer.
        mixup: see `Augmentation`.
        seed: seed of the order and of the mixture.
        exclusive: see `Batches`.
    """

    def __init__(
        self,
        embeddings: FloatArray,
        labels: IntArray,
        num_labels: int,
        batch_size: int,
        mixup: float,
        seed: int,
        exclusive: bool = True,
    ) -> None:
        super().__init__(labels, num_labels, batch_size, seed, exclusive)
        self.embeddings = embeddings
        self.mixup = mixup

    def batch(self, number: int) -> Batch:
        """Return a batch, numbered from the start of training: inputs and label shares (B, K)."""
        chosen = self.chosen(number)
        rng = np.random.default_rng([self.seed, 1, number])
        return mix(self.embeddings[chosen], self.shares[chosen], self.mixup, rng, self.exclusive)


class TrainingBatches(Batches):
    """Batches of augmented clips.

    Args:
        waveforms: clips, float32 (samples,) each, at the model's rate.
        labels: label of each clip, (n,), or whether it has each label, (n, K).
        num_labels: number of labels, K.
        batch_size: clips per batch; all clips if there are fewer.
        window_samples: length of a training window.
        augmentation: changes to each clip.
        seed: seed of the order and of the augmentation.
        front_end: computes the log-mels here, on the host. None passes waveforms to the model,
            which suits an accelerator.
        exclusive: see `Batches`.
        whole_repeats: how a short clip is repeated, see `semanticac_keras.AudioTower`.
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
        exclusive: bool = True,
        whole_repeats: bool = False,
    ) -> None:
        super().__init__(labels, num_labels, batch_size, seed, exclusive)
        self.front_end = front_end
        self.waveforms = waveforms
        self.window_samples = window_samples
        self.augmentation = augmentation
        self.whole_repeats = whole_repeats
        self._unchanging = self._log_mels_if_unchanging()

    def batch(self, number: int) -> Batch:
        """Return a batch, numbered from the start of training: inputs and label shares (B, K)."""
        chosen = self.chosen(number)
        if self._unchanging is not None:
            return self._unchanging[chosen], self.shares[chosen]
        rng = np.random.default_rng([self.seed, 1, number])
        changes, shares = self.augmentation, self.shares[chosen]
        views = [
            augment(self.waveforms[i], self.window_samples, changes, rng, self.whole_repeats)
            for i in chosen
        ]
        waveforms, shares = mix(np.stack(views), shares, changes.mixup, rng, self.exclusive)
        return self.inputs(waveforms), shares

    def inputs(self, waveforms: FloatArray) -> FloatArray:
        """Return the model's inputs: waveforms (B, samples) or their log-mels (B, frames, mels)."""
        return waveforms if self.front_end is None else log_mels(waveforms, self.front_end)

    def _log_mels_if_unchanging(self) -> FloatArray | None:
        """Log-mels of all clips, (n, frames, mels), if no epoch changes them; else None."""
        if self.front_end is None or self.augmentation != Augmentation():
            return None
        if any(waveform.size != self.window_samples for waveform in self.waveforms):
            return None
        values = self.front_end.frames_in(self.window_samples) * self.front_end.num_mels
        if len(self.waveforms) * values > _MAX_KEPT_VALUES:
            return None
        return log_mels(np.stack(self.waveforms), self.front_end)


def log_mels(waveforms: FloatArray, front_end: FrontEnd) -> FloatArray:
    """Compute the log-mels (B, frames, mels) of waveforms (B, samples)."""
    return np.stack([log_mel(waveform, front_end) for waveform in waveforms])


def label_shares(labels: IntArray, num_labels: int) -> FloatArray:
    """Return the label shares (n, K) of integer labels (n,), or of 0 or 1 for each label (n, K)."""
    if labels.ndim == 2:
        return labels.astype(np.float32)
    return np.eye(num_labels, dtype=np.float32)[labels]
