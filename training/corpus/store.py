"""The decoded sounds of one source, kept on disk so that a stopped build goes on after them."""

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from edge.files import replacing
from semanticac_keras.download import check_space
from semanticac_keras.progress import progress_bar
from semanticac_keras.sound_files import SoundFileError
from training.corpus.decoding import VERSION, Classify, Decoded, Samples, decode
from training.corpus.fetching import credits_of, fetched
from training.corpus.sources import Source
from training.inspection.fingerprints import NUM_CELLS, Fingerprint

# Free space below which no source is begun.
_LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class Stored:
    """One decoded recording of a source; its samples are in the source's file.

    Args:
        source: the source.
        path: path in the source.
        start: first sample in the source's file.
        length: number of samples.
        digest: SHA-256 of the samples.
        file_rate_hz: sample rate of the file.
        sound_class: index of a tagger's class, or -1.
        track: its cells.
    """

    source: Source
    path: str
    start: int
    length: int
    digest: str
    file_rate_hz: int
    sound_class: int
    track: Fingerprint


@dataclass(frozen=True)
class Store:
    """The decoded sounds of one source.

    Args:
        source: the source.
        samples_path: file of int16 samples.
        recordings: all recordings, by path.
        problems: lines about files that cannot be used.
        credits: texts of licences and credits, by path.
    """

    source: Source
    samples_path: Path
    recordings: tuple[Stored, ...]
    problems: tuple[str, ...]
    credits: dict[str, str]

    def samples(self) -> Samples:
        """Return all samples of the source, mapped."""
        if not self.recordings:
            return np.zeros(0, np.int16)
        return np.memmap(self.samples_path, np.int16, mode="r")


def store(
    source: Source,
    work: Path,
    debian_mirror: str,
    classify: Classify | None,
    tagger_sha256: str,
    workers: int,
    progress: bool,
) -> Store:
    """Fetch and decode a source, or read what an earlier build has left.

    Args:
        source: the source.
        work: folder for downloads and decoded sounds.
        debian_mirror: address of a Debian mirror.
        classify: a tagger's judgement, if any.
        tagger_sha256: digest of the tagger's file; empty without one.
        workers: number of threads that decode.
        progress: whether to show progress bars on stderr.

    Raises:
        CorpusError: if the source cannot be fetched.
        OSError: if a file cannot be written, as on a full disk.
    """
    samples_path = work / f"{source.name}.int16"
    notes_path = work / f"{source.name}.npz"
    decoder = (VERSION, soundfile.__libsndfile_version__, soxr.__version__, tagger_sha256)
    key = f"{source.key} {decoder}"
    # A folder may have changed without its name.
    known = None if source.fetch == "folder" else _read(source, key, samples_path, notes_path)
    if known is not None:
        return known
    _remove_leftovers(source, work)
    check_space(work, _LEAST_FREE_BYTES)
    with fetched(source, work / "downloads", debian_mirror) as (folder, lacking):
        credits = credits_of(folder)
        paths = sorted(
            path
            for file in folder.rglob("*")
            if source.wants(path := file.relative_to(folder).as_posix()) and file.is_file()
        )
        results = _decode(source, folder, paths, classify, workers, progress)
        with replacing(samples_path) as temporary:
            rows, tracks, bad = _write_samples(temporary, results)
    notes = {"key": key, "rows": rows, "problems": [*lacking, *bad], "credits": credits}
    with replacing(notes_path) as temporary:
        np.savez(temporary, notes=np.array(json.dumps(notes)), tracks=tracks)
    stored = _read(source, key, samples_path, notes_path)
    assert stored is not None
    return stored


def _write_samples(
    path: Path, results: Iterable[Decoded | str]
) -> tuple[list[tuple[object, ...]], Fingerprint, list[str]]:
    """Write the samples of decoded files; return what `_read` needs, all tracks, and the failures.

    Each row has a recording's path, start, length, digest, sample rate, class, and track's length.
    """
    rows: list[tuple[object, ...]] = []
    tracks, failures, start = [np.zeros((0, NUM_CELLS), np.int8)], [], 0
    with path.open("wb") as file:
        for result in results:
            if isinstance(result, str):
                failures.append(result)
                continue
            result.samples.tofile(file)
            length = len(result.samples)
            numbers = (result.file_rate_hz, result.sound_class, len(result.track))
            rows.append((result.path, start, length, result.digest, *numbers))
            tracks.append(result.track)
            start += length
    return rows, np.concatenate(tracks), failures


def _remove_leftovers(source: Source, work: Path) -> None:
    """Remove what a killed build has left of a source."""
    for folder in (work / "downloads").glob(f".{source.name}-*"):
        shutil.rmtree(folder)
    for file in work.glob(f".*.{source.name}.*"):
        file.unlink()


def _decode(
    source: Source,
    folder: Path,
    paths: Sequence[str],
    classify: Classify | None,
    workers: int,
    progress: bool,
) -> Iterator[Decoded | str]:
    """Yield what `decode` returns for each path, in order, or a line with the reason of failure."""

    def attempt(path: str) -> Decoded | str:
        try:
            return decode(folder, path, source.kind_of(path), classify)
        except SoundFileError as error:
            return f"{path}: {error}"

    pool = ThreadPoolExecutor(workers)
    try:
        with progress_bar(f"Decoding {source.name}", len(paths), enabled=progress) as advance:
            for result in pool.map(attempt, paths):
                yield result
                advance(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(source: Source, key: str, samples_path: Path, notes_path: Path) -> Store | None:
    """Return the sounds of an earlier build; None if there are none, or of another key."""
    if not (samples_path.is_file() and notes_path.is_file()):
        return None
    try:
        with np.load(notes_path) as content:
            notes, tracks = json.loads(str(content["notes"])), content["tracks"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if notes["key"] != key:
        return None
    recordings, first = [], 0
    for *values, frames in notes["rows"]:
        path, start, length, digest, rate_hz, sound_class = values
        cells = tracks[first : first + frames]
        recordings.append(Stored(source, path, start, length, digest, rate_hz, sound_class, cells))
        first += frames
    return Store(
        source, samples_path, tuple(recordings), tuple(notes["problems"]), notes["credits"]
    )
