"""Texts that describe labels, in place of their names."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semanticac_keras import SemanticAC

Texts = tuple[tuple[str, ...], ...]


def read_texts(path: Path, labels: Sequence[str]) -> Texts:
    """Read the texts of labels from a TOML file; a label that it leaves out keeps its name.

    Args:
        path: file of lines `"label" = "text"` or `"label" = ["text", "another text"]`.
        labels: class names.

    Returns:
        One or more texts for each label.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not TOML, names another label, has something else than texts, or a text
            twice.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f'{path} must be TOML, such as "dog" = "a dog": {error}') from error
    if unknown := [name for name in entries if name not in labels]:
        raise ValueError(
            f"{path} must have labels of the dataset only. Received: {', '.join(unknown)}. "
            f"The labels: {', '.join(labels)}."
        )
    texts = []
    for label in labels:
        value = entries.get(label, label)
        values = [value] if isinstance(value, str) else value
        if not (isinstance(values, list) and values and all(map(_is_text, values))):
            raise ValueError(
                f"{path} must have a text, or a list of texts, for each label. "
                f"Received: {label} = {value!r}."
            )
        texts.append(tuple(text.strip() for text in values))
    every = [text for group in texts for text in group]
    if repeated := sorted({text for text in every if every.count(text) > 1}):
        raise ValueError(f"{path} must have each text once. Repeated: {', '.join(repeated)}.")
    return tuple(texts)


def average_texts(model: SemanticAC, texts: Texts) -> None:
    """Replace the baked embedding of each label by that of its texts.

    It is the mean of the texts' unit vectors, scaled to unit length. It lasts until the labels are
    baked again.

    Args:
        model: model whose labels are the first of these texts.
        texts: one or more texts for each label, without the prompt.
    """
    filled = [model.prompt.replace("{label}", text) for group in texts for text in group]
    ends = np.cumsum([len(group) for group in texts])[:-1]
    means = np.stack([part.mean(axis=0) for part in np.split(model.encode_text(filled), ends)])
    assert model.label_embeddings is not None  # created by the constructor
    model.label_embeddings.assign(means / np.linalg.norm(means, axis=1, keepdims=True))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
