"""Reading of a built corpus."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import numpy.typing as npt

from training.corpus.decoding import SAMPLE_RATE_HZ, Samples
from training.corpus.sources import CorpusError

INDEX = "index.csv"
RECEIPT = "corpus.json"
SHARDS = "shards"

SPLITS = ("train", "held-out")


@dataclass(frozen=True)
class Recording:
    """One recording of a corpus.

    Args:
        source: name of its source.
        path: path in the source.
        text: the words of its folder and file name.
        kind: kind of sound.
        split: "train", or "held-out" for all recordings of some sources.
        file_rate_hz: sample rate of the file; there is no sound above half of it.
        shard: number of its shard.
        start: its first sample in the shard.
        length: its number of samples.
    """

    source: str
    path: str
    text: str
    kind: str
    split: str
    file_rate_hz: int
    shard: int
    start: int
    length: int

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.length / SAMPLE_RATE_HZ


class Corpus:
    """A corpus on disk, whose samples are mapped into memory and not read in advance.

    Args:
        path: directory written by `python -m training.corpus build`.

    Attributes:
        path: that directory.
        recordings: all recordings, in the order of the index.
        sample_rate_hz: sample rate of the samples.

    Raises:
        CorpusError: if there is no complete corpus.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.sample_rate_hz = SAMPLE_RATE_HZ
        if not (self.path / RECEIPT).is_file():
            raise CorpusError(
                f"{self.path} holds no complete corpus. Build one with "
                "`python -m training.corpus build`."
            )
        try:
            with _open_index(self.path / INDEX) as file:
                self.recordings = tuple(_recording(row) for row in csv.DictReader(file))
        except (OSError, KeyError, ValueError) as error:
            raise CorpusError(f"{self.path / INDEX} cannot be read: {error}.") from error
        self._shards: dict[int, Samples] = {}

    def __len__(self) -> int:
        return len(self.recordings)

    @cached_property
    def receipt(self) -> dict[str, Any]:
        """How the corpus was built."""
        receipt: dict[str, Any] = json.loads((self.path / RECEIPT).read_text(encoding="utf-8"))
        return receipt

    @property
    def may_ship(self) -> bool:
        """Whether weights trained on the corpus may be published, by the sources' licences."""
        return bool(self.receipt["may_ship"])

    @property
    def hours(self) -> float:
        """Length of all recordings together."""
        return sum(recording.seconds for recording in self.recordings) / 3600

    def indices(self, split: str) -> npt.NDArray[np.int64]:
        """Return the indices of the recordings in a split, ascending.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split}.")
        chosen = [i for i, recording in enumerate(self.recordings) if recording.split == split]
        return np.array(chosen, np.int64)

    def samples(self, index: int) -> Samples:
        """Return the samples of a recording: int16 (length,), read-only, mapped from its shard.

        Raises:
            CorpusError: if the shard is missing or damaged.
        """
        recording = self.recordings[index]
        shard = self._shards.get(recording.shard)
        if shard is None:
            file = shard_path(self.path, recording.shard)
            try:
                shard = self._shards[recording.shard] = np.load(file, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                raise CorpusError(f"{file} cannot be read: {error}. Build it again.") from error
        return shard[recording.start : recording.start + recording.length]


def shard_path(corpus: Path, number: int) -> Path:
    """Return the path of a shard."""
    return corpus / SHARDS / f"{number:04}.npy"


def write_index(path: Path, recordings: Sequence[Recording]) -> None:
    """Write the index of a corpus as CSV."""
    names = [field.name for field in fields(Recording)]
    with _open_index(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(recording, name) for name in names] for recording in recordings)


def _open_index(path: Path, mode: str = "r") -> TextIO:
    """Open an index; file names may be no UTF-8."""
    file: Any = path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")
    return cast(TextIO, file)


def _recording(row: dict[str, str]) -> Recording:
    """Parse a row of the index."""
    return Recording(
        **{
            field.name: int(row[field.name]) if field.type is int else row[field.name]
            for field in fields(Recording)
        }  # type: ignore[arg-type]
    )
