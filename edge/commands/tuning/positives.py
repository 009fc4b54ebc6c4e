"""Short recordings of known sounds, in a directory sorted by label."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = frozenset(
    (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")
)


class Positive(NamedTuple):
    """A recording, and what sounds in it.

    Args:
        path: the file.
        label: one of the model's.
    """

    path: Path
    label: str


def find_positives(directory: Path, labels: Sequence[str]) -> tuple[list[Positive], list[str]]:
    """Find the recordings of a model's labels.

    A label is the name of a directory, with recordings anywhere in it, or the beginning of a file's
    name: `sea waves/`, `sea_waves-03.flac`. Case, blanks and punctuation do not count.

    Args:
        directory: holds the directories, the files, or both.
        labels: the classes.

    Returns:
        The recordings, sorted, and the names of the directories and recordings that are left out
        since they name no label.

    Raises:
        OSError: if the directory cannot be read.
        ValueError: if there is no recording of any label.
    """
    # The longest first: "dog barking-1.wav" is no "dog" where there is a "dog barking".
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
            f"{directory} must have directories, or files that begin, with a label of the model "
            f"({', '.join(labels)}). Received: {', '.join(left_out[:5]) or 'no recordings'}."
        )
    return found, left_out


def _recordings(entry: Path) -> Iterator[Path]:
    paths = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
    for path in paths:
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith("."):
            yield path


def _words(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.replace("_", " ").casefold()))
