"""Short recordings of known sounds in a directory, sorted by label."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = frozenset(
    (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")
)


class Positive(NamedTuple):
    """A recording of one label.

    Args:
        path: the file.
        label: one of the model's labels.
    """

    path: Path
    label: str


def find_positives(directory: Path, labels: Sequence[str]) -> tuple[list[Positive], list[str]]:
    """Find the recordings of a model's labels.

    A label is the name of a directory, searched recursively, or the beginning of a file's name:
    `sea waves/`, `sea_waves-03.flac`. Case, spaces and punctuation are ignored.

    Args:
        directory: contains directories, files, or both.
        labels: the model's labels.

    Returns:
        The recordings, sorted, and the names of skipped directories and recordings, which match no
        label.

    Raises:
        OSError: if the directory cannot be read.
        ValueError: if there is no recording of any label.
    """
    # The longest match counts, and comes last: "dog barking-1.wav" is not a "dog" if there is a
    # label "dog barking".
    by_words = {_words(label): label for label in sorted(labels, key=len)}
    found, left_out = [], []
    for entry in sorted(directory.iterdir()):
        recordings = list(_recordings(entry))
        words = _words(entry.name if entry.is_dir() else entry.stem)
        fitting = [
            label
            for name, label in by_words.items()
            if words == name or (entry.is_file() and words.startswith(f"{name} "))
        ]
        if fitting:
            found += [Positive(path, fitting[-1]) for path in recordings]
        elif recordings:
            left_out.append(entry.name)
    if not found:
        raise ValueError(
            f"{directory} must have directories or files whose names begin with a label of the "
            f"model ({', '.join(labels)}). Received: {', '.join(left_out[:5]) or 'no recordings'}."
        )
    return found, left_out


def _recordings(entry: Path) -> Iterator[Path]:
    paths = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
    for path in paths:
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith("."):
            yield path


def _words(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.replace("_", " ").casefold()))
