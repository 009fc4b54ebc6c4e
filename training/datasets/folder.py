"""Custom recordings: one directory per class, or a CSV file."""

import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.datasets.audio import AUDIO_SUFFIXES, read_clip, read_header
from training.datasets.base import AudioDataset, Clip, DatasetError, map_files, name_some

NUM_FOLDS = 5

_REQUIRED_COLUMNS = ("filename", "label")
_OPTIONAL_COLUMNS = ("fold", "source")


@dataclass(frozen=True)
class _Recording:
    """One listed file. `fold` is None if not listed."""

    name: str
    path: Path
    label: str
    source: str
    fold: int | None


def load(data_dir: Path | None, progress: bool) -> AudioDataset:
    """Return the recordings of a directory or a CSV file.

    A directory holds one directory per class; its name is the label, with spaces for underscores.
    A CSV file has the columns `filename` (relative to the file) and `label`, and optionally `fold`
    (from 1) and `source` (the recording a file was cut from). Without the column `fold`, sources
    are assigned to five stratified folds, the same on each run.

    Args:
        data_dir: directory or CSV file.
        progress: whether to show a progress bar on stderr.

    Raises:
        ValueError: if `data_dir` is None.
        DatasetError: if the listing is inconsistent, or files are missing, unreadable or unlisted.
    """
    if data_dir is None:
        raise ValueError("`data_dir` must be a directory of class directories, or a CSV file.")
    if data_dir.is_dir():
        recordings = _list_directory(data_dir)
    elif data_dir.is_file():
        recordings = _list_csv(data_dir)
    else:
        raise DatasetError(f"{data_dir} does not exist.")
    if not recordings:
        raise DatasetError(f"{data_dir} has no recordings.")
    durations = map_files(
        lambda recording: read_header(recording.path).duration_seconds,
        recordings,
        name_of=lambda recording: recording.name,
        description="Checking recordings",
        progress=progress,
    )
    folds = _folds(recordings)
    labels = sorted({recording.label for recording in recordings})
    clips = tuple(
        Clip(
            name=recording.name,
            label=labels.index(recording.label),
            fold=fold,
            source=recording.source,
            path=recording.path,
            duration_seconds=duration_seconds,
        )
        for recording, fold, duration_seconds in zip(recordings, folds, durations, strict=True)
    )
    return AudioDataset(
        name=data_dir.resolve().stem,
        labels=tuple(labels),
        clips=clips,
        licence="not stated",
        citation="",
        read=read_clip,
    )


def _list_directory(root: Path) -> list[_Recording]:
    """Return every visible file below the class directories."""
    files = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(map(_is_hidden, path.relative_to(root).parts))
    ]
    in_class = [path for path in files if path.parent != root]
    loose = [path for path in files if path.parent == root and _is_audio(path)]
    _refuse(loose, root, "are not in a class directory")
    _refuse([path for path in in_class if not _is_audio(path)], root, "have no known audio format")
    directories = {path for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name)}
    _refuse(
        directories - {root / path.relative_to(root).parts[0] for path in in_class},
        root,
        "are empty",
    )
    recordings = []
    for path in in_class:
        relative = path.relative_to(root)
        name = relative.as_posix()
        recordings.append(_Recording(name, path, _label_text(relative.parts[0]), name, None))
    return recordings


def _list_csv(table: Path) -> list[_Recording]:
    """Return the rows of a CSV file, which must list all recordings in its directories."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            columns = _check_columns(table, reader.fieldnames or ())
            recordings = [_parse_row(row, columns, table.parent) for row in reader]
        except (csv.Error, ValueError) as error:
            raise DatasetError(f"{table}, line {reader.line_num}: {error}.") from error
    listed = {recording.path for recording in recordings}
    unlisted = {
        path
        for directory in {path.parent for path in listed if path.parent.is_dir()}
        for path in directory.iterdir()
        if path not in listed and _is_audio(path) and not _is_hidden(path.name)
    }
    _refuse(unlisted, table.parent, f"are not listed in {table.name}")
    return recordings


def _check_columns(table: Path, columns: Sequence[str]) -> Sequence[str]:
    """Reject missing, unknown and repeated columns."""
    known = {*_REQUIRED_COLUMNS, *_OPTIONAL_COLUMNS}
    distinct = set(columns)
    if not set(_REQUIRED_COLUMNS) <= distinct <= known or len(distinct) != len(columns):
        raise DatasetError(
            f"{table} must have the columns {', '.join(_REQUIRED_COLUMNS)} and may have "
            f"{', '.join(_OPTIONAL_COLUMNS)}. Received: {', '.join(columns) or 'none'}."
        )
    return columns


def _parse_row(row: dict[str, str], columns: Sequence[str], root: Path) -> _Recording:
    """Return the recording of a row. Raises `ValueError` if the row is malformed."""
    if set(row) != set(columns) or not all(row.values()):
        raise ValueError(f"expected one value for each of {', '.join(columns)}")
    fold = int(row["fold"]) if "fold" in row else None
    # Normalise, so that each file has one name.
    name = Path(os.path.normpath(row["filename"])).as_posix()
    path = Path(os.path.normpath(root / name))
    return _Recording(name, path, _label_text(row["label"]), row.get("source", name), fold)


def _folds(recordings: Sequence[_Recording]) -> list[int]:
    """Return the listed folds, or assign sources to folds so that labels spread evenly."""
    listed = [recording.fold for recording in recordings if recording.fold is not None]
    if listed:
        return listed
    labels_of: defaultdict[str, list[str]] = defaultdict(list)
    for recording in recordings:
        labels_of[recording.source].append(recording.label)
    fold_of: dict[str, int] = {}
    clips_in: Counter[tuple[int, str]] = Counter()
    total_in: Counter[int] = Counter()
    # Large sources first, then in an order independent of file names.
    for source in sorted(labels_of, key=lambda name: (-len(labels_of[name]), _digest(name))):
        labels = labels_of[source]
        fold = min(
            range(1, NUM_FOLDS + 1),
            key=lambda fold: (sum(clips_in[fold, label] for label in labels), total_in[fold]),
        )
        fold_of[source] = fold
        clips_in.update((fold, label) for label in labels)
        total_in[fold] += len(labels)
    labels = sorted({recording.label for recording in recordings})
    sparse = [
        label
        for label in labels
        if not all(clips_in[fold, label] for fold in range(1, NUM_FOLDS + 1))
    ]
    if sparse:
        raise DatasetError(
            f"Each label needs recordings from at least {NUM_FOLDS} sources to be in each of "
            f"{NUM_FOLDS} folds. Too few: {name_some(sparse)}. Record more, or list the files in "
            "a CSV file with a `fold` column."
        )
    return [fold_of[recording.source] for recording in recordings]


def _label_text(name: str) -> str:
    """Return a label as inserted into prompts."""
    return name.replace("_", " ").strip()


def _is_hidden(name: str) -> bool:
    """Return whether a file or directory is hidden."""
    return name.startswith(".")


def _is_audio(path: Path) -> bool:
    """Return whether a file has the suffix of a format that libsndfile reads."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def _digest(text: str) -> str:
    """Return a hash that is the same in every process, unlike `hash`."""
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(paths: Iterable[Path], root: Path, problem: str) -> None:
    """Raise an error that counts and names the paths, if any."""
    names = sorted(os.path.relpath(path, root) for path in paths)
    if names:
        raise DatasetError(
            f"{root} has entries that {problem} ({len(names):,}): {name_some(names)}."
        )
