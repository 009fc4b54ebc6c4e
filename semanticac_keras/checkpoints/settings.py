"""Settings of published models: JSON files, and the values that they must have."""

import json
from pathlib import Path
from typing import Any

from semanticac_keras.checkpoints.stored import CheckpointError


def read_settings(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: if the file is not available or damaged, or holds something else.
    """
    value = read_json(file)
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} must hold an object. Received: {value!r:.40}")
    return value


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: if the file is not available or damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def section(file: Path, config: dict[str, Any], key: str) -> dict[str, Any]:
    """Look up an object of settings, which may be missing or null.

    Raises:
        CheckpointError: if the value is something else.
    """
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: `{key}` must be an object. Received: {value!r:.40}")
    return value


def size(file: Path, config: dict[str, Any], key: str) -> int:
    """Look up a positive integer.

    Raises:
        CheckpointError: if the value is another or missing.
    """
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{file}: `{key}` must be a positive integer. Received: {value}")
    return value


def choice(
    file: Path, config: dict[str, Any], key: str, choices: tuple[str, ...], default: str = ""
) -> str:
    """Look up one of some values.

    Raises:
        CheckpointError: if the value is another, or missing without a default.
    """
    value = config.get(key, default)
    if value not in choices:
        raise CheckpointError(
            f"{file}: `{key}` must be {' or '.join(choices)}. Received: {value or 'none'}"
        )
    return value
