"""Names of a tagger's classes, from a list or from the tagger's own file."""

import csv
import os
import zipfile
from pathlib import Path

from semanticac_keras.tagger import Tagger, TaggerError

_NAME_COLUMN = "display_name"


def read_class_names(tagger: Tagger, path: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Read the names of a tagger's classes.

    Args:
        tagger: the tagger.
        path: UTF-8 text with one name a line, or a table with a column `display_name` and commas or
            tabs between its columns, such as `yamnet_class_map.csv`. If not given, such a file
            (`.txt` or `.csv`) that the tagger's own file contains.

    Returns:
        One name for each score.

    Raises:
        TaggerError: if there is no list, or it has another number of names.
        OSError: if the file cannot be read.
    """
    if path is None:
        lists = _associated_lists(tagger.path)
    else:
        lists = {os.fspath(path): Path(path).read_bytes()}
    counts = []
    for source, content in lists.items():
        names = _parse(source, content)
        if len(names) == tagger.num_scores:
            return names
        counts.append(f"{len(names)} in {source}")
    if not counts:
        raise TaggerError(
            f"{tagger.path} has no list of its classes' names in it. Give one (--tagger-labels), "
            "such as yamnet_class_map.csv for YAMNet."
        )
    raise TaggerError(
        f"a list of class names must have one for each of the tagger's {tagger.num_scores} "
        f"scores. Received: {', '.join(counts)}."
    )


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a list of class names, as `read_class_names` does.

    Raises:
        OSError: if the file cannot be read.
        TaggerError: if it is not UTF-8.
    """
    return _parse(os.fspath(path), Path(path).read_bytes())


def _associated_lists(path: Path) -> dict[str, bytes]:
    """Read the text files in the zip that may follow a flatbuffer, in their order."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                f"{path}/{name}": archive.read(name)
                for name in archive.namelist()
                if name.lower().endswith((".txt", ".csv"))
            }
    except zipfile.BadZipFile:
        return {}


def _parse(source: str, content: bytes) -> tuple[str, ...]:
    """Return the names in a list."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise TaggerError(f"{source} must be UTF-8 text. Received: {error}.") from error
    header = lines[0] if lines else ""
    delimiter = "\t" if "\t" in header else ","
    if _NAME_COLUMN in header.split(delimiter):
        rows = csv.DictReader(lines, delimiter=delimiter)
        lines = [row[_NAME_COLUMN] or "" for row in rows]
    return tuple(line.strip() for line in lines if line.strip())
