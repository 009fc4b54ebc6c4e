"""A published CLAP as a teacher."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras import ops

from edge.types import FloatArray
from semanticac_keras.centered_text import unit_vectors
from semanticac_keras.checkpoints.clap import load_clap
from semanticac_keras.prompts import CLAP_PROMPT, fill
from semanticac_keras.scores import softmax


class ClapTeacher:
    """A CLAP that scores the texts of given classes.

    It hears a window of the student at once, repeated until it fills one of its own. Its scores are
    the softmax over the classes, as in its zero-shot classification, so that several sounds at once
    share a sum of 1.

    Args:
        source: see `load_clap`.
        class_names: names of the classes.
        window_seconds: length of the student's windows; CLAP's if that is shorter.

    Raises:
        CheckpointError: if the model is not available.
    """

    def __init__(
        self, source: str | Path, class_names: Sequence[str], window_seconds: float
    ) -> None:
        clap = load_clap(source)
        self.name = Path(source).name
        self.tower = clap.audio_tower
        self.scale = math.exp(clap.log_scale)
        self.vectors = unit_vectors(
            clap.text_encoder, clap.tokenizer, fill(CLAP_PROMPT, class_names)
        )
        front_end = self.tower.front_end
        self.sample_rate_hz = front_end.sample_rate_hz
        seconds = min(window_seconds, front_end.window_seconds)
        self.window_samples = round(seconds * self.sample_rate_hz)
        sha256 = hashlib.sha256(self.vectors.tobytes())
        for weight in self.tower.weights:
            sha256.update(ops.convert_to_numpy(weight).tobytes())
        self.sha256 = sha256.hexdigest()

    def hear_window(self, window: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the scores and the embedding of a window.

        Args:
            window: float32 (window_samples,).

        Returns:
            float32 (K,) and unit vector (D,).
        """
        windows, _ = self.tower.windows_of([window])
        embedding = ops.convert_to_numpy(self.tower(self.tower.inputs_of(windows)))[0]
        scores = softmax(self.scale * (self.vectors @ embedding)[np.newaxis])[0]
        return scores.astype(np.float32), embedding
