"""Custom recordings: one directory per class, or a CSV file."""

import csv
import hashlib
import os
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semanticac_keras.sound_files import AUDIO_SUFFIXES, AudioHeader, read_header
from training.datasets.audio import read_clip
from training.datasets.base import AudioDataset, Clip, DatasetError, map_files, name_some

NUM_FOLDS = 5

_REQUIRED_COLUMNS = ("filename", "label")
_OPTIONAL_COLUMNS = ("fold", "source", "start", "end")
# What operating systems leave beside recordings, in lower case; hidden files are skipped as well.
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
# Annotations are rounded, and some formats round their length up.
_END_TOLERANCE_SECONDS = 0.1


@dataclass(frozen=True)
class _Recording:
    """One listed file or segment of a file.

    Args:
        name: path relative to the listing, in the same form on all systems.
        path: path of the file.
        categories: labels as listed; see `_label_text`.
        source: the recording it was cut from.
        fold: None if not listed.
        start: in seconds, from the beginning of the file.
        end: in seconds; None for the end of the file.
    """

    name: str
    path: Path
    categories: tuple[str, ...]
    source: str
    fold: int | None = None
    start: float = 0.0
    end: float | None = None


def load(data_dir: Path | None, progress: bool) -> AudioDataset:
    """Return the recordings of a directory or a CSV file.

    A directory holds one directory per class; its name is the label, with spaces for underscores.
    A CSV file has the columns `filename` (relative to the file) and `label`, and optionally `fold`
    (from 1), `source` (the recording a clip was cut from), `start` and `end` (seconds of a clip
    within the file). A label may be several, separated by semicolons, or empty: no label sounds.
    Without the column `fold`, each source has the fold `fold_of(source)`.

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
    _check_categories(recordings, data_dir)
    labels = sorted({_label_text(name) for each in recordings for name in each.categories})
    if not labels:
        raise DatasetError(f"{data_dir} has no label in any row.")
    paths = list(dict.fromkeys(recording.path for recording in recordings))
    name_of = {recording.path: recording.name for recording in recordings}
    headers = map_files(
        read_header,
        paths,
        name_of=lambda path: name_of[path],
        description="Checking recordings",
        progress=progress,
    )
    clips = _clips(recordings, labels, dict(zip(paths, headers, strict=True)))
    if recordings[0].fold is None:
        _check_spread(clips, labels)
    return AudioDataset(
        name=data_dir.resolve().stem,
        labels=tuple(labels),
        clips=clips,
        licence="not stated",
        citation="",
        read=read_clip,
    )


def fold_of(source: str) -> int:
    """Return the fold of a recording that lists none: a hash of its name, from 1 to `NUM_FOLDS`.

    It depends on nothing else, so a recording stays in its fold when others come or go.
    """
    name = source.encode(errors="surrogateescape")  # a file's name need not be valid UTF-8
    return 1 + int(hashlib.sha256(name).hexdigest(), 16) % NUM_FOLDS


def _clips(
    recordings: Sequence[_Recording], labels: Sequence[str], headers: dict[Path, AudioHeader]
) -> tuple[Clip, ...]:
    """Convert recordings to clips, after checking that segments are within their files."""
    clips, invalid = [], []
    exclusive = all(len(recording.categories) == 1 for recording in recordings)
    for recording in recordings:
        header, name, segment = headers[recording.path], recording.name, None
        start, end = recording.start, header.duration_seconds
        if recording.start or recording.end is not None:
            end = end if recording.end is None else recording.end
            name = f"{name}[{start:.3f}-{end:.3f}]"
            if not 0 <= start < end <= header.duration_seconds + _END_TOLERANCE_SECONDS:
                invalid.append(f"{name} of {header.duration_seconds:.3f} s")
                continue
            end = min(end, header.duration_seconds)
            segment = (start, end)
        indices = tuple(labels.index(_label_text(name)) for name in recording.categories)
        clips.append(
            Clip(
                name=name,
                label=indices[0] if exclusive else indices,
                fold=fold_of(recording.source) if recording.fold is None else recording.fold,
                source=recording.source,
                path=recording.path,
                duration_seconds=end - start,
                segment=segment,
                sample_rate_hz=header.sample_rate_hz,
            )
        )
    if invalid:
        raise DatasetError(
            "Segments must have 0 <= start < end <= the file's length, in seconds. "
            f"Received ({len(invalid):,}): {name_some(invalid)}."
        )
    return tuple(clips)


def _list_directory(root: Path) -> list[_Recording]:
    """Return every recording below the class directories."""
    skipped: list[Path] = []
    files = sorted(_walk(root, skipped))
    in_class = [path for path in files if path.parent != root]
    loose = [path for path in files if path.parent == root]
    _refuse([path for path in loose if _is_audio(path)], root, "are not in a class directory")
    skipped += [path for path in loose if not _is_audio(path)]
    _refuse([path for path in in_class if not _is_audio(path)], root, "have no known audio format")
    directories = {path for path in root.iterdir() if path.is_dir() and not _is_clutter(path)}
    _refuse(
        directories - {root / path.relative_to(root).parts[0] for path in in_class},
        root,
        "are empty",
    )
    if skipped:
        names = sorted(path.relative_to(root).as_posix() for path in skipped)
        print(
            f"skipped, because they are not recordings ({len(names):,}): {name_some(names)}",
            file=sys.stderr,
        )
    recordings = []
    for path in in_class:
        relative = path.relative_to(root)
        name = _portable(relative.as_posix())
        recordings.append(_Recording(name, path, (relative.parts[0],), source=name))
    return recordings


def _walk(directory: Path, skipped: list[Path]) -> Iterator[Path]:
    """Yield the files below a directory, through symbolic links; collect clutter in `skipped`."""
    dangling, circular = [], []
    waiting = [(directory, frozenset({directory.resolve()}))]
    while waiting:
        parent, above = waiting.pop()
        for path in parent.iterdir():
            if _is_clutter(path):
                skipped.append(path)
            elif path.is_file():
                yield path
            elif not path.is_dir():
                dangling.append(path)
            elif (target := path.resolve()) in above:
                circular.append(path)
            else:
                waiting.append((path, above | {target}))
    _refuse(dangling, directory, "are broken links or special files")
    _refuse(circular, directory, "are links to a directory above them")


def _list_csv(table: Path) -> list[_Recording]:
    """Return the rows of a table; reject audio files that it does not list."""
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
        if path not in listed and _is_audio(path) and not _is_clutter(path)
    }
    _refuse(unlisted, table.parent, f"are not listed in {table.name}")
    return recordings


def _check_columns(table: Path, columns: Sequence[str]) -> set[str]:
    """Return the known columns; reject missing and repeated ones and name the unknown ones."""
    known = {*_REQUIRED_COLUMNS, *_OPTIONAL_COLUMNS}
    if not set(_REQUIRED_COLUMNS) <= set(columns) or len(set(columns)) != len(columns):
        raise DatasetError(
            f"{table} must have the columns {', '.join(_REQUIRED_COLUMNS)} and may have "
            f"{', '.join(_OPTIONAL_COLUMNS)}, each once. Received: {', '.join(columns) or 'none'}."
        )
    if unknown := [column for column in columns if column not in known]:
        print(
            f"{table}: ignored the columns {', '.join(unknown)}; optional ones are "
            f"{', '.join(_OPTIONAL_COLUMNS)}",
            file=sys.stderr,
        )
    return known.intersection(columns)


def _parse_row(row: dict[str, str], columns: set[str], root: Path) -> _Recording:
    """Return the recording of a row. Raises `ValueError` if the row is malformed."""
    needed = columns - {"label", "start", "end"}
    # The reader files surplus values under None, and fills up with None.
    if None in row or None in row.values() or not all(row[column] for column in needed):
        raise ValueError(f"expected one value for each of {', '.join(filter(None, row))}")
    # Normalise, so that each file has one name.
    path = Path(os.path.normpath(row["filename"].replace("\\", "/")))
    name = _portable(path.as_posix())
    return _Recording(
        name=name,
        path=Path(os.path.normpath(root / path)),
        categories=_parse_labels(row["label"]),
        source=_portable(row.get("source", name)),
        fold=int(row["fold"]) if "fold" in row else None,
        start=float(row.get("start") or 0),
        end=float(row["end"]) if row.get("end") else None,
    )


def _parse_labels(text: str) -> tuple[str, ...]:
    """Return the labels that a cell separates by semicolons, each once; () for an empty cell."""
    names = (name.strip() for name in text.split(";"))
    return tuple(dict.fromkeys(name for name in names if name))


def _check_categories(recordings: Iterable[_Recording], listing: Path) -> None:
    """Reject labels that differ only in case, spaces or underscores: the model reads no case."""
    spellings = defaultdict(set)
    for category in {name for recording in recordings for name in recording.categories}:
        words = _label_text(category).casefold().split()
        spellings[" ".join(words)].add(category)
    if alike := [sorted(names) for names in spellings.values() if len(names) > 1]:
        groups = [" = ".join(map(repr, names)) for names in alike]
        raise DatasetError(
            f"{listing} has labels that the model reads as the same text: {name_some(groups)}. "
            "Merge or rename them."
        )


def _check_spread(clips: Iterable[Clip], labels: Sequence[str]) -> None:
    """Reject labels whose clips are all in one fold."""
    folds = defaultdict(set)
    for clip in clips:
        for label in clip.labels:
            folds[label].add(clip.fold)
    if alone := [text for label, text in enumerate(labels) if len(folds[label]) == 1]:
        raise DatasetError(
            "All recordings of a label are in one of the five folds, so none would be left for "
            f"training when that fold is held out: {name_some(alone)}. Add a few recordings, or "
            "list the files in a CSV file with a `fold` column."
        )


def _label_text(name: str) -> str:
    """Return a label as inserted into prompts."""
    return _portable(name).replace("_", " ").strip()


def _portable(text: str) -> str:
    """Return the text in Unicode's composed form: some systems store names decomposed."""
    return unicodedata.normalize("NFC", text)


def _is_clutter(path: Path) -> bool:
    """Return whether a file or directory is hidden, or left by an operating system."""
    return path.name.startswith(".") or path.name.lower() in _CLUTTER


def _is_audio(path: Path) -> bool:
    """Return whether a file has the suffix of a format that libsndfile reads."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def _refuse(paths: Iterable[Path], root: Path, problem: str) -> None:
    """Raise an error that counts and names the paths, if any."""
    names = sorted(os.path.relpath(path, root) for path in paths)
    if names:
        raise DatasetError(
            f"{root} has entries that {problem} ({len(names):,}): {name_some(names)}."
        )
