"""One training step as every contender gets it: sizes and data."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray, IntArray


@dataclass(frozen=True)
class Workload:
    """Sizes of a step. It travels as JSON to processes that know nothing of Keras.

    Args:
        batch_size: clips of one window.
        precision: `"float32"` or `"mixed_bfloat16"`.
        front_end: `FrontEnd.to_json()`.
        audio_encoder: every argument of `HTSATEncoder`.
        cscm: every argument of `CSCM`.
        text_encoder: every argument of `TextEncoder`.
        num_labels: label texts, all of which are encoded in every step.
        text_length: tokens of each.
    """

    batch_size: int
    precision: str
    front_end: dict[str, Any]
    audio_encoder: dict[str, Any]
    cscm: dict[str, Any]
    text_encoder: dict[str, Any]
    num_labels: int = 50
    text_length: int = 10

    @classmethod
    def from_json(cls, text: str) -> "Workload":
        """What `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def waveforms(self) -> FloatArray:
        """Noise, (B, samples)."""
        shape = (self.batch_size, FrontEnd.from_json(self.front_end).window_samples)
        return 0.1 * np.random.default_rng(0).standard_normal(shape, np.float32)

    def labels(self) -> IntArray:
        """Label of each clip, (B,)."""
        return np.arange(self.batch_size) % self.num_labels

    def token_ids(self) -> IntArray:
        """Random texts (K, L), each closed by the end-of-text token, which is the highest."""
        end = self.text_encoder["vocabulary_size"] - 1
        shape = (self.num_labels, self.text_length)
        ids = np.random.default_rng(1).integers(end, size=shape)
        ids[:, -1] = end
        return ids
