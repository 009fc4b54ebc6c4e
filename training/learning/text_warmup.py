"""Warm-up of the text encoder before the first epoch."""

from itertools import repeat
from typing import Any

import keras
import numpy as np
from keras import ops

from semanticac_keras import SemanticAC
from training.learning.interrupts import stopping_between_steps

_LEARNING_RATE = 1e-3


def decorrelate_labels(model: SemanticAC, steps: int, batch_size: int) -> None:
    """Train only a model's text encoder, to separate the embeddings of its labels.

    With random weights, prompts that differ in one word get almost the same vector: the cosines of
    ten labels start at 0.9. The audio encoder would spend its first epochs on nearly equal targets.
    A few steps bring the cosines near zero.

    Args:
        model: model with an untrained text encoder.
        steps: number of updates, each on all labels.
        batch_size: batch size of the training that follows, a multiple of its devices.
    """
    warmup = _Warmup(model)
    warmup.compile(keras.optimizers.Adam(_LEARNING_RATE))
    unused = np.zeros((batch_size, 1), np.float32)
    with stopping_between_steps() as interrupt:
        warmup.fit(
            ((unused,) for _ in repeat(None)),
            steps_per_epoch=steps,
            callbacks=[interrupt],
            shuffle=False,
            verbose=0,
        )
    model.bake_labels()


class _Warmup(keras.Model):
    """The text encoder, trained to reduce the mean squared cosine between different labels."""

    def __init__(self, model: SemanticAC) -> None:
        super().__init__(name="text_warmup")
        self.text_encoder = model.text_encoder
        self.texts = model.embed_labels

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the labels' unit vectors (K, C); the inputs are unused."""
        return self.texts()

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean squared cosine, a scalar in [0, 1]."""
        cosines = ops.matmul(y_pred, ops.transpose(y_pred))
        num_labels = cosines.shape[0]
        return (ops.sum(ops.square(cosines)) - num_labels) / (num_labels * (num_labels - 1))
