"""Files of texts that take the place of labels' names."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from semanticac_keras.prompts import texts_by_label


def read_texts(path: Path | None, labels: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    """Read texts in place of labels' names from a TOML file.

    Args:
        path: file of lines `"label" = "text"` or `"label" = ["text", "another text"]`; None is no
            file.
        labels: class names.

    Returns:
        The texts of each label, its name if the file has no others; None without a file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not TOML, names another label, has something else than texts, or a text
            twice.
    """
    if path is None:
        return None
    try:
        texts = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f'{path} must be TOML, such as "dog" = "a dog": {error}') from error
    try:
        return texts_by_label(labels, texts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
