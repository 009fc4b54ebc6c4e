"""Sizes and data of one training step, the same for every contender."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray, IntArray


@dataclass(frozen=True)
class Workload:
    """Sizes of a step, sent as JSON to child processes that may not have Keras.

    Args:
        batch_size: number of clips of one window each.
        precision: `"float32"` or `"mixed_bfloat16"`.
        front_end: `FrontEnd.to_json()`.
        audio_encoder: all arguments of `HTSATEncoder`.
        cscm: all arguments of `CSCM`.
        text_encoder: all arguments of `TextEncoder`.
        num_labels: number of label texts, all encoded in every step.
        text_length: tokens per label text.
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
        """Parse the output of `to_json`."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Serialize to one line of JSON."""
        return json.dumps(asdict(self))

    def waveforms(self) -> FloatArray:
        """Noise of shape (B, samples), float32."""
        shape = (self.batch_size, FrontEnd.from_json(self.front_end).window_samples)
        return 0.1 * np.random.default_rng(0).standard_normal(shape, np.float32)

    def labels(self) -> IntArray:
        """Label of each clip, of shape (B,)."""
        return np.arange(self.batch_size) % self.num_labels

    def token_ids(self) -> IntArray:
        """Random token ids (K, L), each row closed by the end-of-text token, the highest id."""
        end = self.text_encoder["vocabulary_size"] - 1
        shape = (self.num_labels, self.text_length)
        ids = np.random.default_rng(1).integers(end, size=shape)
        ids[:, -1] = end
        return ids
