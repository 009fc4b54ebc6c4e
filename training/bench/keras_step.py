"""Training step of our model, as in `training.fit`, on the current Keras backend."""

import math
import time
from itertools import repeat
from typing import Any

import keras
from keras import ops

from edge.inference.frontend import FrontEnd
from semanticac_keras import CSCM, AudioTower, ByteTokenizer, HTSATEncoder, SemanticAC, TextEncoder
from training.bench.workload import Workload
from training.learning.distribution import device_kind


class KerasStep:
    """Our compiled model and its batch.

    Args:
        workload: sizes and data.
        compiled: whether to use XLA, or `torch.compile` on PyTorch.
    """

    def __init__(self, workload: Workload, compiled: bool) -> None:
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(workload.precision)
        self.model = SemanticAC(
            AudioTower(
                FrontEnd.from_json(workload.front_end),
                HTSATEncoder(**workload.audio_encoder),
                CSCM(**workload.cscm),
            ),
            TextEncoder(**workload.text_encoder),
            ByteTokenizer(workload.text_length),
            labels=[f"label {i}" for i in range(workload.num_labels)],
            token_ids=workload.token_ids(),
        )
        self.model.compile(
            keras.optimizers.SGD(8e-5, momentum=0.9, nesterov=True, weight_decay=5e-4),
            jit_compile=compiled,
        )
        self.batch = (workload.waveforms(), workload.labels())
        self.device = device_kind()
        self.num_parameters = sum(math.prod(v.shape) for v in self.model.trainable_variables)
        self.counts_flops = keras.backend.backend() == "torch" and not compiled

    def run(self, steps: int) -> tuple[float, float]:
        """Run steps; return the seconds and the loss of the last step."""
        watch = _Stopwatch(steps)
        self.model.fit(
            (batch for batch in repeat(self.batch)),
            steps_per_epoch=steps,
            callbacks=[watch],
            shuffle=False,
            verbose=0,
        )
        return watch.seconds, watch.loss

    def multiply(self, size: int, products: int) -> float:
        """Seconds for a number of products of square matrices at the precision of the step."""
        dtype = keras.config.dtype_policy().compute_dtype
        x, matrix = (keras.random.normal((size, size), dtype=dtype) for _ in range(2))
        matrix = matrix * size**-0.5  # x keeps its magnitude
        x = ops.matmul(x, matrix)
        ops.convert_to_numpy(x[0, 0])  # waits
        started = time.perf_counter()
        for _ in range(products):
            x = ops.matmul(x, matrix)
        ops.convert_to_numpy(x[0, 0])
        return time.perf_counter() - started


class _Stopwatch(keras.callbacks.Callback):
    """Time from the first step of an epoch until the device has finished the last."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.last = steps - 1

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 0:
            self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == self.last:
            self.loss = float((logs or {})["loss"])  # waits for the step
            self.seconds = time.perf_counter() - self.started
