"""Base of all datasets: labelled clips in folds, and a function that reads one clip."""

import csv
import hashlib
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edge.types import FloatArray, IntArray
from semanticac_keras.progress import progress_bar
from semanticac_keras.sound_files import SoundFileError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class DatasetError(Exception):
    """A dataset is missing, incomplete, damaged or inconsistent."""


@dataclass(frozen=True)
class Clip:
    """One labelled recording.

    Args:
        name: stable and unique within the dataset, such as the file name.
        label: index into the dataset's `labels`; several or none as a tuple.
        fold: 1-based fold for cross-validation.
        source: identifier of the recording the clip was cut from; each belongs to one fold.
        path: path of the file, if any.
        duration_seconds: length of the stored clip.
        segment: start and end in seconds within the file; None if the clip is the whole file.
        sample_rate_hz: sample rate of the file, if known.
    """

    name: str
    label: int | tuple[int, ...]
    fold: int
    source: str
    path: Path | None
    duration_seconds: float
    segment: tuple[float, float] | None = None
    sample_rate_hz: int | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """Indices of all labels of the clip."""
        return self.label if isinstance(self.label, tuple) else (self.label,)


@dataclass(frozen=True)
class AudioDataset:
    """Labelled clips with folds. The constructor rejects inconsistent clips.

    Args:
        name: short name, stored with results.
        labels: label texts, as inserted into prompts; `Clip.label` indexes them.
        clips: all clips.
        licence: terms of the audio.
        citation: how to cite the dataset, possibly empty.
        read: maps `(clip, sample_rate_hz)` to a mono float32 waveform; must be thread-safe.
        straddling_sources: sources in more than one fold of an official split.
        copies_at_hz: sample rate of the files, if they are copies of the published ones at another
            rate; sound above half of it is missing.

    Raises:
        DatasetError: if names repeat, labels and clips do not match, all clips have the same
            label, there are fewer than two folds, or a source outside `straddling_sources` is in
            more than one fold.
    """

    name: str
    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    licence: str
    citation: str
    read: Callable[[Clip, int], FloatArray] = field(repr=False)
    straddling_sources: frozenset[str] = frozenset()
    copies_at_hz: int | None = None

    def __post_init__(self) -> None:
        if not self.clips:
            raise DatasetError(f"{self.name} has no clips.")
        self._check_names()
        self._check_labels()
        self._check_folds()

    @property
    def exclusive(self) -> bool:
        """Whether each clip has exactly one label."""
        return not self.num_not_single

    @property
    def num_not_single(self) -> int:
        """Number of clips with several labels or none."""
        return sum(len(clip.labels) != 1 for clip in self.clips)

    @property
    def folds(self) -> tuple[int, ...]:
        """The fold numbers in ascending order."""
        return tuple(sorted({clip.fold for clip in self.clips}))

    @property
    def digest(self) -> str:
        """SHA-256 of `listing()`, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.listing(), sort_keys=True).encode()).hexdigest()

    @property
    def copies_note(self) -> str:
        """What copies at another sample rate lack, for reports; empty for the published files."""
        if self.copies_at_hz is None:
            return ""
        return (
            f"the clips are copies at {self.copies_at_hz:,} Hz, with nothing above "
            f"{self.copies_at_hz // 2:,} Hz; results differ from those on the published clips"
        )

    def listing(self) -> dict[str, list[Any]]:
        """Return what identifies each clip, in a form that JSON keeps; see `describe_changes`.

        Returns:
            From each clip's name to its labels' texts (see `text`), its fold, and its size: the
            file's in bytes, or the duration in seconds if there is no file.

        Raises:
            DatasetError: if files are missing.
        """
        try:
            sizes = [
                clip.path.stat().st_size if clip.path else clip.duration_seconds
                for clip in self.clips
            ]
        except OSError as error:
            raise DatasetError(f"{self.name} cannot be read: {error}.") from error
        return {
            clip.name: [self.text(clip), clip.fold, size]
            for clip, size in zip(self.clips, sizes, strict=True)
        }

    def text(self, clip: Clip) -> str:
        """Return the text of a clip's label; several are joined by semicolons."""
        return ";".join(self.labels[label] for label in clip.labels)

    def truth(self, indices: Iterable[int]) -> IntArray:
        """Return the label of each clip, if all clips of the dataset have one, else all of them.

        Args:
            indices: indices into `clips`.

        Returns:
            int64: `(n,)` label indices or, unless `exclusive`, `(n, K)` with 1 for each label of a
            clip and 0 for the others.
        """
        labels = [self.clips[index].labels for index in indices]
        if self.exclusive:
            return np.array([label for (label,) in labels], np.int64)
        several = np.zeros((len(labels), len(self.labels)), np.int64)
        for row, of_clip in zip(several, labels, strict=True):
            row[list(of_clip)] = 1
        return several

    def split(self, fold: int) -> tuple[IntArray, IntArray]:
        """Return indices of the clips outside and inside a fold.

        Args:
            fold: test fold, one of `folds`.

        Returns:
            Training and test indices into `clips`, ascending, shapes `(n,)` and `(m,)`.

        Raises:
            ValueError: if the fold does not exist.
        """
        if fold not in self.folds:
            raise ValueError(f"`fold` must be one of {self.folds}. Received: {fold}.")
        inside = np.array([clip.fold == fold for clip in self.clips])
        return np.flatnonzero(~inside).astype(np.int64), np.flatnonzero(inside).astype(np.int64)

    def load(
        self, indices: Iterable[int], sample_rate_hz: int = 32_000, progress: bool = False
    ) -> list[FloatArray]:
        """Read clips in parallel.

        Args:
            indices: indices into `clips`, in the order to read them.
            sample_rate_hz: target sample rate.
            progress: whether to show a progress bar on stderr.

        Returns:
            One mono float32 waveform `(num_samples,)` per index.

        Raises:
            ValueError: if the sample rate is not positive.
            DatasetError: if clips cannot be read. Counts all failures and names the first.
        """
        if sample_rate_hz <= 0:
            raise ValueError(f"`sample_rate_hz` must be positive. Received: {sample_rate_hz}.")
        return map_files(
            lambda clip: self.read(clip, sample_rate_hz),
            [self.clips[index] for index in indices],
            name_of=lambda clip: clip.name,
            description=f"Reading {self.name}",
            progress=progress,
        )

    def _check_names(self) -> None:
        """Reject repeated clip names."""
        counts = Counter(clip.name for clip in self.clips)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise DatasetError(
                f"Clip names of {self.name} must be unique. Repeated: {name_some(repeated)}."
            )

    def _check_labels(self) -> None:
        """Reject repeated or empty labels, labels without clips, and clips without a label."""
        if len(set(self.labels)) != len(self.labels) or "" in self.labels:
            raise DatasetError(
                f"Labels of {self.name} must be unique texts. Received: {self.labels}."
            )
        if len(self.labels) == 1 and all(clip.labels for clip in self.clips):
            raise DatasetError(
                f"{self.name} needs at least two labels, because a model chooses between them. "
                f"Received: {self.labels[0]}. Add clips of other sounds under another label, or "
                "without a label in a CSV file."
            )
        used = {label for clip in self.clips for label in clip.labels}
        if unknown := used - set(range(len(self.labels))):
            raise DatasetError(
                f"Clips of {self.name} must have a label from 0 to {len(self.labels) - 1}. "
                f"Received: {sorted(unknown)}."
            )
        if empty := [text for label, text in enumerate(self.labels) if label not in used]:
            raise DatasetError(f"Labels of {self.name} without a clip: {name_some(empty)}.")

    def _check_folds(self) -> None:
        """Reject fewer than two folds, and sources in more than one fold."""
        if len(self.folds) < 2 or self.folds[0] < 1:
            raise DatasetError(
                f"{self.name} needs at least two folds, numbered from 1. Received: {self.folds}."
            )
        folds_of = defaultdict(set)
        for clip in self.clips:
            folds_of[clip.source].add(clip.fold)
        leaking = sorted(source for source, folds in folds_of.items() if len(folds) > 1)
        if unexpected := [source for source in leaking if source not in self.straddling_sources]:
            raise DatasetError(
                f"Sources of {self.name} must be in one fold each, so that no recording is used "
                "for both training and test. "
                f"In several ({len(unexpected):,}): {name_some(unexpected)}."
            )


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names and the number of the remaining ones."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown


def describe_changes(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> str:
    """Describe how the clips of a dataset have changed, in one line.

    Args:
        before: an earlier result of `AudioDataset.listing`, possibly read from JSON.
        now: a later one.

    Returns:
        Such as "2 clips were added (a.wav, b.wav), 1 clip has another label/size (c.wav)"; empty
        if both are equal.
    """
    parts = ("label", "fold", "size")
    changed = {name for name in before.keys() & now.keys() if before[name] != now[name]}
    kinds = "/".join(
        part
        for position, part in enumerate(parts)
        if any(before[name][position] != now[name][position] for name in changed)
    )
    groups = (
        ("was added", "were added", now.keys() - before.keys()),
        ("was removed", "were removed", before.keys() - now.keys()),
        (f"has another {kinds}", f"have another {kinds}", changed),
    )
    texts = [
        f"{len(names):,} {'clip ' + one if len(names) == 1 else 'clips ' + several} "
        f"({name_some(sorted(names))})"
        for one, several, names in groups
        if names
    ]
    return ", ".join(texts)


def read_official_table(path: Path, sha256: str, url: str) -> list[dict[str, str]]:
    """Return the rows of a published CSV table after checking its digest.

    Args:
        path: path of the table.
        sha256: digest of the published table, with LF line ends.
        url: source of the table, for the error message.

    Raises:
        DatasetError: if the digest differs.
    """
    content = path.read_bytes().replace(b"\r\n", b"\n")  # git may have converted line ends
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DatasetError(
            f"{path} must be the official table, SHA-256 {sha256}. Received: {digest}. "
            f"Download it from {url}."
        )
    return list(csv.DictReader(io.StringIO(content.decode())))


def map_files(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    name_of: Callable[[_Item], str],
    description: str,
    progress: bool = False,
) -> list[_Result]:
    """Apply a function to items in threads and combine all errors into one.

    Args:
        function: maps an item to a result; raises `DatasetError` or `SoundFileError` if an item is
            unusable.
        items: arguments of the function.
        name_of: returns the name of an item for the error message.
        description: text beside the progress bar.
        progress: whether to show the bar on stderr.

    Returns:
        The results in the order of `items`.

    Raises:
        DatasetError: if any item failed. Counts all and names the first with their reasons.
    """

    def attempt(item: _Item) -> _Result | DatasetError | SoundFileError:
        try:
            return function(item)
        except (DatasetError, SoundFileError) as error:
            return error

    results: list[_Result] = []
    failures: list[str] = []
    num_threads = min(8, os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(num_threads) as pool,
        progress_bar(description, len(items), enabled=progress) as advance,
    ):
        for item, result in zip(items, pool.map(attempt, items), strict=True):
            if isinstance(result, DatasetError | SoundFileError):
                failures.append(f"{name_of(item)} ({result})")
            else:
                results.append(result)
            advance(1)
    if failures:
        raise DatasetError(
            f"{len(failures):,} of {len(items):,} clips cannot be used: {name_some(failures)}."
        )
    return results
