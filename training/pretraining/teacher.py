"""What a teacher makes of a corpus, computed once and kept on disk beside the log-mels."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.inference.frontend import FrontEnd, log_mel
from edge.types import FloatArray, IntArray
from semanticac_keras.progress import progress_bar
from semanticac_keras.sound_files import resample
from training.corpus.reader import Corpus
from training.pretraining.spectra import Bytes, to_bytes
from training.runs.files import RunError, writing

# Recordings are kept in parts of this length, so that an interrupted command loses little.
_PART_SECONDS = 600.0
_RECEIPT = "targets.json"


class Teacher(Protocol):
    """What hears a corpus: a `Tagger`, or a `ClapTeacher`.

    Attributes:
        name: for people.
        sha256: digest of its weights.
        sample_rate_hz: sample rate of the sound it hears.
        window_samples: samples that it hears at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def window_samples(self) -> int: ...

    def hear_window(self, window: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the scores (K,) and the embedding (D,) of a window; called in threads."""
        ...


@dataclass(frozen=True)
class Grid:
    """Times of a teacher's windows, which start at frames of the student.

    Args:
        window_seconds: length of a window.
        hop_seconds: time between the starts of two windows.
        hop_frames: the same in frames of the student.
    """

    window_seconds: float
    hop_seconds: float
    hop_frames: int

    @classmethod
    def of(cls, teacher: Teacher, front_end: FrontEnd, unit_frames: int = 1) -> "Grid":
        """Let the windows of a teacher overlap by about half.

        Args:
            teacher: the teacher.
            front_end: front end of the student.
            unit_frames: frames of which the hop is a multiple.

        Raises:
            RunError: if a window of the teacher is longer than the student's.
        """
        window_seconds = teacher.window_samples / teacher.sample_rate_hz
        if window_seconds > front_end.window_seconds:
            raise RunError(
                f"{teacher.name} hears {window_seconds:g} s at once, and the student "
                f"{front_end.window_seconds:g} s. Choose a preset with longer windows."
            )
        half_frames = window_seconds / 2 * front_end.frames_per_second
        hop_frames = unit_frames * max(1, round(half_frames / unit_frames))
        return cls(window_seconds, hop_frames / front_end.frames_per_second, hop_frames)

    def windows_in(self, seconds: float) -> int:
        """Return how many windows lie entirely in a time, at least 1."""
        spare = seconds - self.window_seconds + 1e-6
        return 1 + max(0, int(spare / self.hop_seconds))


@dataclass(frozen=True)
class Heard:
    """Targets of one recording.

    Args:
        log_mels: bytes of the log-mels (frames, mels), see `spectra.to_bytes`.
        scores: the teacher's scores (W, K), float16, of windows on a `Grid`.
        embeddings: the teacher's embeddings (W, D), float16.
    """

    log_mels: Bytes
    scores: npt.NDArray[np.float16]
    embeddings: npt.NDArray[np.float16]


class Targets:
    """Targets of all recordings of a corpus, mapped into memory.

    Args:
        directory: directory written by `compute_targets`.
        corpus: the same corpus.

    Attributes:
        grid: times of the teacher's windows.
        num_scores: K.
        embedding_dim: D.
        num_windows: windows of each recording, int (n,).

    Raises:
        RunError: if the targets are of another corpus or incomplete.
    """

    def __init__(self, directory: Path, corpus: Corpus) -> None:
        receipt = _read_receipt(directory)
        if receipt.get("recordings") != _listing(corpus):
            raise RunError(f"{directory} holds the targets of another corpus.")
        self.grid = Grid(**receipt["grid"])
        self.parts = _parts(corpus)
        self._maps = [_load(directory, number) for number in range(len(self.parts))]
        self._where: dict[int, tuple[int, int, int, int, int]] = {}
        for number, part in enumerate(self.parts):
            counts = self._maps[number][3]
            ends = np.cumsum(counts, axis=0)
            for i, (frames, windows), (frame_end, window_end) in zip(
                part, counts.tolist(), ends.tolist(), strict=True
            ):
                where = (number, frame_end - frames, frame_end, window_end - windows, window_end)
                self._where[i] = where
        first = self._maps[0]
        self.num_scores, self.embedding_dim = first[1].shape[1], first[2].shape[1]
        self.num_windows = np.array([self._windows(i) for i in range(len(corpus))], np.int64)

    def __getitem__(self, index: int) -> Heard:
        number, frame, frame_end, window, window_end = self._where[index]
        log_mels, scores, embeddings, _ = self._maps[number]
        return Heard(
            log_mels[frame:frame_end], scores[window:window_end], embeddings[window:window_end]
        )

    def spare_windows(self, index: int, seconds: float) -> int:
        """Return how many windows a crop has more than a recording; negative if it has fewer."""
        return self.grid.windows_in(seconds) - int(self.num_windows[index])

    def _windows(self, index: int) -> int:
        *_, start, end = self._where[index]
        return end - start


def compute_targets(
    directory: Path,
    corpus: Corpus,
    teacher: Teacher,
    front_end: FrontEnd,
    progress: bool = False,
    unit_frames: int = 1,
) -> Targets:
    """Let a teacher hear a corpus, or go on where an earlier call was interrupted.

    Args:
        directory: directory of the targets; created.
        corpus: the recordings.
        teacher: the teacher.
        front_end: front end of the student.
        progress: draw a progress bar.
        unit_frames: see `Grid.of`.

    Raises:
        RunError: if the directory holds other targets, or cannot be written.
    """
    grid = Grid.of(teacher, front_end, unit_frames)
    receipt = {
        "teacher": {"name": teacher.name, "sha256": teacher.sha256},
        "front_end": front_end.to_json(),
        "grid": asdict(grid),
        "recordings": _listing(corpus),
    }
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / _RECEIPT).exists():
        if _read_receipt(directory) != receipt:
            raise RunError(
                f"{directory} holds the targets of another corpus, teacher or front end. "
                "Choose another directory."
            )
    else:
        with writing(directory / _RECEIPT) as temporary:
            temporary.write_text(json.dumps(receipt, indent=1))
    parts = _parts(corpus)
    left = [n for n in range(len(parts)) if not (directory / _name(n)).exists()]
    with progress_bar(f"{teacher.name} hears the corpus", len(left), enabled=progress) as advance:
        for number, heard in _ahead(left, parts, corpus, teacher, front_end, grid):
            _save(directory / _name(number), heard)
            advance(1)
    return Targets(directory, corpus)


def _ahead(
    left: Sequence[int],
    parts: Sequence[Sequence[int]],
    corpus: Corpus,
    teacher: Teacher,
    front_end: FrontEnd,
    grid: Grid,
) -> Iterator[tuple[int, list[Heard]]]:
    """Yield the targets of parts; threads compute the next recordings meanwhile."""

    def hear(index: int) -> Heard:
        waveform = corpus.samples(index).astype(np.float32) / 32_768.0
        return _hear(waveform, corpus.sample_rate_hz, teacher, front_end, grid)

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[int, list[Future[Heard]]]] = deque()
        try:
            for number in left:
                waiting.append((number, [pool.submit(hear, i) for i in parts[number]]))
                if len(waiting) > 1:
                    ready, futures = waiting.popleft()
                    yield ready, [future.result() for future in futures]
            for ready, futures in waiting:
                yield ready, [future.result() for future in futures]
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _hear(
    waveform: FloatArray, sample_rate_hz: int, teacher: Teacher, front_end: FrontEnd, grid: Grid
) -> Heard:
    """Compute the targets of one recording; a short one is heard with silence after it."""
    sound = resample(waveform, sample_rate_hz, teacher.sample_rate_hz)
    count = grid.windows_in(len(sound) / teacher.sample_rate_hz)
    starts = np.rint(np.arange(count) * grid.hop_seconds * teacher.sample_rate_hz).astype(int)
    sound = np.pad(sound, (0, max(0, starts[-1] + teacher.window_samples - len(sound))))
    windows = [teacher.hear_window(sound[i : i + teacher.window_samples]) for i in starts]
    scores, embeddings = (np.stack(rows) for rows in zip(*windows, strict=True))
    log_mels = log_mel(resample(waveform, sample_rate_hz, front_end.sample_rate_hz), front_end)
    return Heard(to_bytes(log_mels), scores.astype(np.float16), embeddings.astype(np.float16))


def _parts(corpus: Corpus) -> list[list[int]]:
    """Group the recordings, in order, into parts of about `_PART_SECONDS`."""
    parts: list[list[int]] = []
    seconds = _PART_SECONDS
    for i, recording in enumerate(corpus.recordings):
        if seconds >= _PART_SECONDS:
            parts.append([])
            seconds = 0.0
        parts[-1].append(i)
        seconds += recording.seconds
    return parts


def _listing(corpus: Corpus) -> str:
    """Return a digest of the recordings: names, order and lengths."""
    lines = (f"{r.source}\t{r.path}\t{r.shard}\t{r.start}\t{r.length}" for r in corpus.recordings)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _name(part: int) -> str:
    """Return the name of a part's file of counts, which is written last."""
    return f"{part:05}-counts.npy"


_ARRAYS = ("mels", "scores", "embeddings", "counts")


def _save(counts_path: Path, heard: Sequence[Heard]) -> None:
    """Write a part; its counts come last, so that an incomplete part is computed again."""
    counts = np.array([[len(h.log_mels), len(h.scores)] for h in heard], np.int64)
    arrays = (
        np.concatenate([h.log_mels for h in heard]),
        np.concatenate([h.scores for h in heard]),
        np.concatenate([h.embeddings for h in heard]),
        counts,
    )
    number = counts_path.name.split("-")[0]
    for name, array in zip(_ARRAYS, arrays, strict=True):
        path = counts_path.with_name(f"{number}-{name}.npy")
        with writing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)


def _load(directory: Path, part: int) -> tuple[Any, Any, Any, IntArray]:
    paths = [directory / f"{part:05}-{name}.npy" for name in _ARRAYS]
    try:
        mels, scores, embeddings = (np.load(path, mmap_mode="r") for path in paths[:3])
        return mels, scores, embeddings, np.load(paths[3])
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{directory} holds incomplete targets: {error}.") from error


def _read_receipt(directory: Path) -> dict[str, Any]:
    try:
        receipt: dict[str, Any] = json.loads((directory / _RECEIPT).read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{directory} holds no targets: {error}.") from error
    return receipt
