"""Batches of augmented clips, prepared by threads ahead of the accelerator."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import numpy as np

from edge.inference.frontend import FrontEnd, log_mel
from edge.types import FloatArray, IntArray
from training.learning.augment import Augmentation, augment, mix

Batch = tuple[FloatArray, FloatArray]
_THREADS = 2
_AHEAD = 4
# Log-mels that are kept from epoch to epoch: 256 MB.
_MAX_KEPT_VALUES = 1 << 26


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
        self._unchanging = self._log_mels_if_unchanging()

    @property
    def steps_per_epoch(self) -> int:
        """Number of complete batches in an epoch."""
        return len(self.waveforms) // self.batch_size

    def chosen(self, number: int) -> IntArray:
        """Return the indices (B,) of a batch's clips; batches are numbered as in `batch`."""
        epoch, step = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.waveforms))
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    def batch(self, number: int) -> Batch:
        """Return a batch, numbered from the start of training: inputs and label shares (B, K)."""
        chosen = self.chosen(number)
        if self._unchanging is not None:
            return self._unchanging[chosen], self.shares[chosen]
        rng = np.random.default_rng([self.seed, 1, number])
        size, changes = self.window_samples, self.augmentation
        windows = np.stack([augment(self.waveforms[i], size, changes, rng) for i in chosen])
        waveforms, shares = mix(windows, self.shares[chosen], changes.mixup, rng)
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

    def generate(self, first_epoch: int = 0) -> Iterator[Batch]:
        """Yield batches in order from the start of an epoch, preparing a few ahead."""
        with ThreadPoolExecutor(_THREADS) as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                for number in count(first_epoch * self.steps_per_epoch):
                    ahead.append(pool.submit(self.batch, number))
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
