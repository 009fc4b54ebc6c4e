"""Vectors of a teacher's class names, in the space of a sentence encoder."""

import re
from collections.abc import Sequence

import keras
import numpy as np

from edge.types import FloatArray
from semanticac_keras import load_sentence_encoder

_AT_ONCE = 64


def class_vectors(names: Sequence[str], encoder: str = "minilm") -> tuple[FloatArray, FloatArray]:
    """Encode class names as unit vectors around their common centre.

    A sentence encoder's vectors of short texts share a large part, which says no more than "a short
    text". Without it, unrelated classes have a cosine near zero.

    Args:
        names: class names; the parts between commas are synonyms, and are averaged with the name.
        encoder: the sentence encoder, see `load_sentence_encoder`.

    Returns:
        Unit vectors (K, C), and the centre (C,) that was subtracted from the names' vectors.
    """
    model, tokenizer = load_sentence_encoder(encoder, None)
    groups = [_synonyms(name) for name in names]
    texts = [text for group in groups for text in group]
    parts = [
        keras.ops.convert_to_numpy(model(tokenizer(texts[i : i + _AT_ONCE]), normalize=True))
        for i in range(0, len(texts), _AT_ONCE)
    ]
    ends = np.cumsum([len(group) for group in groups])[:-1]
    means = np.stack([rows.mean(axis=0) for rows in np.split(np.concatenate(parts), ends)])
    means = means / np.linalg.norm(means, axis=1, keepdims=True)
    centre = means.mean(axis=0)
    vectors = means - centre
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), centre


def _synonyms(name: str) -> list[str]:
    """Return a name and, if it lists several, each of them."""
    parts = [part.strip() for part in re.sub(r"\((.*?)\)", r", \1", name).split(",")]
    return [name, *(part for part in parts if part and part != name)]
