"""A file of thresholds, one a label, that `semanticac-edge tune` writes and people may edit."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.files import replacing

_TABLE = "thresholds"


class ThresholdsError(ValueError):
    """A file of thresholds is damaged, or does not fit the model."""


def read_thresholds(
    path: str | os.PathLike[str], labels: Sequence[str] | None = None
) -> dict[str, float]:
    """Read a TOML file such as

        [thresholds]
        "dog" = 0.62
        "rain" = 0.8

    Args:
        path: the file. Labels it does not name are left to `Policy.threshold`.
        labels: those of the model; any where None.

    Returns:
        Threshold by label, for `Policy.thresholds`.

    Raises:
        OSError: if the file cannot be read.
        ThresholdsError: if it is no such file, a threshold is not above 0 and at most 1, or a
            label is not the model's.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # No TOML, or no UTF-8.
        raise ThresholdsError(f"{path} is no file of thresholds: {error}.") from error
    table = content.pop(_TABLE, None)
    if not isinstance(table, dict) or content:
        found = ", ".join([*content, *([_TABLE] if table is not None else [])]) or "nothing"
        raise ThresholdsError(
            f'{path} must have one table, [{_TABLE}], with a line such as "dog" = 0.6 for each '
            f"label. Received: {found}."
        )
    for label, value in table.items():
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise ThresholdsError(
                f"{path}: the threshold of {label!r} must be above 0 and at most 1. "
                f"Received: {value!r}."
            )
        if labels is not None and label not in labels:
            raise ThresholdsError(
                f"{path}: {label!r} must be a label of the model ({', '.join(labels)}). Tune "
                "again, or correct the name."
            )
    return {label: float(value) for label, value in table.items()}


def write_thresholds(
    path: str | os.PathLike[str], thresholds: Mapping[str, float], comments: Sequence[str] = ()
) -> None:
    """Write what `read_thresholds` reads, or leave the file as it was.

    Args:
        path: the file.
        thresholds: by label, above 0 and at most 1.
        comments: lines at its top, for people.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if a threshold is out of its range.
    """
    for label, value in thresholds.items():
        if not 0 < value <= 1:
            raise ValueError(
                f"the threshold of {label!r} must be above 0 and at most 1. Received: {value}."
            )
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    lines += [f"[{_TABLE}]"]
    lines += [f"{_quoted(label)} = {float(value)!r}" for label, value in thresholds.items()]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(label: str) -> str:
    """A TOML basic string: JSON's, but for one more character that must be escaped."""
    return json.dumps(label, ensure_ascii=False).replace("\x7f", "\\u007f")
