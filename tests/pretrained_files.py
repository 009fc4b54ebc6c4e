"""Pretrained audio towers of micro size with random weights, and a small sentence encoder."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from semanticac_keras import AudioTower, BertEncoder, ByteTokenizer, Pretrained, pretrained
from semanticac_keras.pretrained import TextSpace, save_pretrained
from tests import micro

NAMES = ("Dog", "Smoke detector, smoke alarm", "Rain")
DIM = 16
LOG_SCALE, BIAS = 2.5, -7.0


def make_pretrained() -> Pretrained:
    """Create a tower; the preset `micro` must be registered."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(NAMES), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tower = AudioTower.from_preset(micro.NAME, output_dim=DIM)
    for weight in tower.weights:  # apart from the values that every new tower has
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape).astype(np.float32) ** 2)
    space = TextSpace(NAMES, vectors, rng.normal(size=DIM).astype(np.float32) / 9)
    return Pretrained(micro.NAME, tower, space, LOG_SCALE, BIAS, {"corpus": {"hours": 3.5}})


def write_pretrained(path: Path) -> Path:
    """Write such a tower, and return the path."""
    save_pretrained(make_pretrained(), path)
    return path


def replace_sentence_encoder(patch: pytest.MonkeyPatch) -> tuple[BertEncoder, list[str]]:
    """Let a text encoder without layers, which reads bytes, take the place of any other.

    Returns:
        The encoder, and the sources that it is loaded from, which grow with each call.
    """
    keras.utils.set_random_seed(1)
    encoder = BertEncoder(
        vocabulary_size=258, context_length=64, width=DIM, num_layers=0, num_heads=1, hidden_dim=8
    )
    sources: list[str] = []

    def load(source: str) -> tuple[BertEncoder, Callable]:
        sources.append(source)
        return encoder, ByteTokenizer(64)

    patch.setattr(pretrained, "load_sentence_encoder", load)
    return encoder, sources
