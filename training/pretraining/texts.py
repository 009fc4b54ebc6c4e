"""A teacher's class names in the space of a sentence encoder."""

import re
from collections.abc import Sequence

import numpy as np

from edge.types import FloatArray
from semanticac_keras import load_sentence_encoder
from semanticac_keras.centered_text import unit_vectors
from semanticac_keras.pretrained import TextSpace


def text_space(names: Sequence[str], encoder: str = "minilm") -> TextSpace:
    """Encode class names as unit vectors around their common centre.

    Args:
        names: class names; the parts between commas are synonyms, and are averaged with the name.
        encoder: the sentence encoder, see `load_sentence_encoder`.

    Raises:
        CheckpointError: if the encoder is not available.
    """
    model, tokenizer = load_sentence_encoder(encoder)
    groups = [_synonyms(name) for name in names]
    vectors = unit_vectors(model, tokenizer, [text for group in groups for text in group])
    ends = np.cumsum([len(group) for group in groups])[:-1]
    means = _unit(np.stack([rows.mean(axis=0) for rows in np.split(vectors, ends)]))
    center = means.mean(axis=0)
    return TextSpace(tuple(names), _unit(means - center), center, encoder)


def _unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _synonyms(name: str) -> list[str]:
    """Return a name and, if it lists several, each of them."""
    parts = [part.strip() for part in re.sub(r"\((.*?)\)", r", \1", name).split(",")]
    return [name, *(part for part in parts if part and part != name)]
