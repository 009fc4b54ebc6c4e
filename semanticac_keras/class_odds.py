"""The audio side of labels by class names: a tagger's scores as one vector."""

import os
from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
from keras import ops

from edge.types import FloatArray
from semanticac_keras.audio_tower import Tower
from semanticac_keras.inputs import loaded

# A score of exactly 0 or 1, as of a tagger with integer weights, has no finite odds.
_SMALLEST_SCORE = 1e-5
_WINDOWS_AT_ONCE = 64


@keras.saving.register_keras_serializable("semanticac_keras")
class ClassOdds(keras.layers.Layer):
    """Head from a tagger's scores to one value for each class: a root of odds / background odds.

    The odds of a class are the mean of s / (1 - s) over the tagger's windows, with scores s in
    [1e-5, 1 - 1e-5]. The background odds are what the class usually has; 1 until they are set, see
    `measure_background`. The last value, which belongs to no class, is 0: see `ClassProfile`.

    Args:
        num_classes: number of scores K.
        root: 2, or 4, which is better without a background: there, classes that often have a high
            score weigh too much.

    Call arguments:
        x: float32 scores (B, T, 1, K).

    Returns:
        float32 (B, K + 1).

    Raises:
        ValueError: if `root` is neither 2 nor 4.
    """

    def __init__(self, num_classes: int, root: Literal[2, 4] = 2, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if root not in (2, 4):
            raise ValueError(f"`root` must be 2 or 4. Received: {root}")
        self.num_classes = num_classes
        self.root = root
        self.output_dim = num_classes + 1

    def build(self, input_shape):
        self.background = self.add_weight(
            shape=(self.num_classes,), initializer="ones", trainable=False, name="background"
        )
        self.built = True

    def call(self, x, training=False):
        _, rows, columns, classes = x.shape
        odds = self.odds(ops.reshape(x, (-1, rows * columns, classes)))
        values = ops.sqrt(odds / self.background)
        if self.root == 4:
            values = ops.sqrt(values)
        return ops.pad(values, ((0, 0), (0, 1)))

    def odds(self, scores):
        """Average the odds of scores (B, T, K) over the windows: float32 (B, K)."""
        scores = ops.clip(scores, _SMALLEST_SCORE, 1 - _SMALLEST_SCORE)
        return ops.mean(scores / (1 - scores), axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "root": self.root}


def measure_background(
    tower: Tower, recordings: Sequence[str | os.PathLike[str] | FloatArray]
) -> None:
    """Set the background odds of a tower's `ClassOdds`: their geometric mean over all windows.

    Args:
        tower: a `TaggerTower` of scores.
        recordings: paths of sound files, or float waveforms (samples,) at the tower's sample rate.

    Raises:
        ValueError: if a file cannot be read, or a waveform is not allowed.
    """
    logs, waiting = [], []
    for number, recording in enumerate(recordings, 1):
        waveforms = loaded([recording], tower.front_end.sample_rate_hz)
        waiting.append(tower.windows_of(waveforms)[0])
        # A few windows would not occupy all cores; those of all recordings may not fit in memory.
        if sum(map(len, waiting)) >= _WINDOWS_AT_ONCE or number == len(recordings):
            odds = tower.head.odds(tower.inputs_of(np.concatenate(waiting)))
            logs.append(np.log(ops.convert_to_numpy(odds)))
            waiting.clear()
    tower.head.background.assign(np.exp(np.concatenate(logs).mean(axis=0)))
