"""Threshold files: one threshold per label, written by `semanticac-edge tune`, editable by hand."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.files import replacing

_TABLE = "thresholds"


class ThresholdsError(ValueError):
    """A threshold file is damaged or does not fit the model."""


def read_thresholds(
    path: str | os.PathLike[str], labels: Sequence[str] | None = None
) -> dict[str, float]:
    """Read a TOML file such as

        [thresholds]
        "dog" = 0.62
        "rain" = 0.8

    Args:
        path: the file. `Policy.threshold` applies to labels that it does not name.
        labels: labels of the model; None accepts any label.

    Returns:
        Threshold by label, for `Policy.thresholds`.

    Raises:
        OSError: if the file cannot be read.
        ThresholdsError: if it is not a threshold file, a threshold is not above 0 and at most 1,
            or the model does not have a label.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:  # Invalid TOML or UTF-8.
        raise ThresholdsError(f"{path} is not a threshold file: {error}.") from error
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
    """Write a file that `read_thresholds` reads, or leave the existing file unchanged.

    Args:
        path: the file.
        thresholds: thresholds by label, above 0 and at most 1.
        comments: comment lines at the top of the file.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if a threshold is out of range.
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
    """A TOML basic string: a JSON string, with one more character escaped."""
    return json.dumps(label, ensure_ascii=False).replace("\x7f", "\\u007f")
