"""How fast batches are made, without anything that trains on them."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edge.inference.frontend import FrontEnd
from training.learning.augment import Augmentation
from training.learning.batches import TrainingBatches

# Everything at once, at the strength of the recipes that use it.
FULL_AUGMENTATION = Augmentation(time_flip=0.5, time_scale=1.5, noise=0.25, gain_db=6.0, mixup=0.3)

_CLIPS = 64
_CLIP_SECONDS = 5.0
_MEASURED_SECONDS = 2.0


def input_rate(front_end: FrontEnd, batch_size: int, threads: int) -> float:
    """Clips a second of `TrainingBatches` under full augmentation, from 5 s of noise each.

    Args:
        front_end: whose windows are made.
        batch_size: clips a batch.
        threads: how many make batches.
    """
    rng = np.random.default_rng(0)
    samples = round(_CLIP_SECONDS * front_end.sample_rate_hz)
    source = TrainingBatches(
        [0.1 * rng.standard_normal(samples, np.float32) for _ in range(_CLIPS)],
        np.arange(_CLIPS) % 50,
        num_labels=50,
        batch_size=batch_size,
        window_samples=front_end.window_samples,
        augmentation=FULL_AUGMENTATION,
        seed=0,
    )
    started = time.perf_counter()
    source.batch(0)
    number = threads * math.ceil(_MEASURED_SECONDS / (time.perf_counter() - started))
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(source.batch, range(number)):
            pass  # a batch is dropped as soon as it is made
        return number * source.batch_size / (time.perf_counter() - started)
