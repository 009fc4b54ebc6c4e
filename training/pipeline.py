"""Batches of augmented clips, made ahead of the accelerator by threads."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import numpy as np
from numpy.typing import NDArray

from training.augment import Augmentation, Waveform, augment, mix

Batch = tuple[Waveform, NDArray[np.float32]]

_THREADS = 2
_AHEAD = 4


class TrainingBatches:
    """Endless batches whose content depends on the seed and their number alone.

    A resumed run therefore goes on exactly where it stopped, whatever the threads do. Each epoch is
    a new permutation; clips that do not fill a batch are left out of that epoch.

    Args:
        waveforms: clips, (samples,) each, at the model's rate.
        labels: (n,) label of each.
        num_labels: K.
        batch_size: clips a batch; all clips if there are fewer.
        window_samples: length of a training window.
        augmentation: what happens to each clip.
        seed: of everything random here.
    """

    def __init__(
        self,
        waveforms: Sequence[Waveform],
        labels: NDArray[np.int64],
        num_labels: int,
        batch_size: int,
        window_samples: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.waveforms = waveforms
        self.shares = one_hot(labels, num_labels)
        self.batch_size = min(batch_size, len(waveforms))
        self.window_samples = window_samples
        self.augmentation = augmentation
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.waveforms) // self.batch_size

    def batch(self, number: int) -> Batch:
        """Batch `number` since the start of training: (B, samples) and label shares (B, K)."""
        epoch, step = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.waveforms))
        chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, 1, number])
        waveforms = np.stack(
            [
                augment(self.waveforms[i], self.window_samples, self.augmentation, rng)
                for i in chosen
            ]
        )
        return mix(waveforms, self.shares[chosen], self.augmentation.mixup, rng)

    def generate(self, first_epoch: int = 0) -> Iterator[Batch]:
        """Batches in order, from the start of an epoch on, a few made ahead."""
        with ThreadPoolExecutor(_THREADS) as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                for number in count(first_epoch * self.steps_per_epoch):
                    ahead.append(pool.submit(self.batch, number))
                    if len(ahead) > _AHEAD:
                        yield ahead.popleft().result()
            finally:
                for waiting in ahead:
                    waiting.cancel()


def one_hot(labels: NDArray[np.int64], num_labels: int) -> NDArray[np.float32]:
    """Label shares (n, K) of integer labels (n,)."""
    return np.eye(num_labels, dtype=np.float32)[labels]
