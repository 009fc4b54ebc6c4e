"""All clips of a dataset as waveforms, in memory or, if too large, mapped from a file."""

import hashlib
import mmap
import threading
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

from edge.files import replacing
from edge.types import FloatArray, IntArray
from semanticac_keras.download import cache_dir, check_space, os_reason
from semanticac_keras.progress import progress_bar
from semanticac_keras.tagger_tower import TaggerTower
from training.datasets.base import AudioDataset, Clip, DatasetError, map_files

# ESC-50 takes 1.8 GB at 44.1 kHz and stays in memory; UrbanSound8K takes 4 GB at 32 kHz.
MEMORY_LIMIT_BYTES = 2 * 10**9

_WINDOWS_AT_ONCE = 64
_SAMPLE_BYTES = np.dtype(np.float32).itemsize
_SPAN_BYTES = 2 * np.dtype(np.int64).itemsize


class Embeddings(NamedTuple):
    """A tagger's embeddings of all windows of some clips.

    Args:
        windows: float32 (n, T, D).
        owners: index of each window's clip, (n,).
    """

    windows: FloatArray
    owners: IntArray

    def of(self, clips: IntArray) -> "Embeddings":
        """Select those of some clips, and number these from 0 in the given order."""
        places = np.full(1 + self.owners.max(initial=0), -1)
        places[clips] = np.arange(len(clips))
        owners = places[self.owners]
        return Embeddings(self.windows[owners >= 0], owners[owners >= 0])


def load_clips(
    dataset: AudioDataset,
    sample_rate_hz: int,
    progress: bool = False,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> list[FloatArray]:
    """Read all clips, with the same samples as `AudioDataset.load`.

    Above the memory limit, the clips are decoded once into a memory-mapped file in the cache. There
    is one file per dataset and sample rate. It is rewritten if the clips, their files or the
    decoder have changed.

    Args:
        dataset: dataset to read.
        sample_rate_hz: target sample rate.
        progress: whether to show a progress bar on stderr.
        memory_limit_bytes: maximum memory of the waveforms.

    Returns:
        One mono float32 waveform `(num_samples,)` per clip; read-only if mapped.

    Raises:
        ValueError: if the sample rate is not positive.
        DatasetError: if clips cannot be read (counts all failures), or the disk is full.
    """
    seconds = sum(clip.duration_seconds for clip in dataset.clips)
    needed_bytes = round(seconds * sample_rate_hz) * _SAMPLE_BYTES
    if needed_bytes <= memory_limit_bytes:
        return dataset.load(range(len(dataset.clips)), sample_rate_hz, progress)
    path = cache_dir() / "clips" / f"{dataset.name}-{sample_rate_hz}.float32"
    key = _key(dataset)
    try:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(key)) == key:
                    return _map(file, key, len(dataset.clips))
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, needed_bytes)
        with replacing(path) as temporary, temporary.open("w+b") as file:
            _write(file, key, dataset, sample_rate_hz, progress)
            # Map before the rename: another process may replace the file afterwards.
            return _map(file, key, len(dataset.clips))
    except OSError as error:
        raise DatasetError(os_reason(error, path)) from error


def load_embeddings(
    dataset: AudioDataset, tower: TaggerTower, clips: list[FloatArray], progress: bool = False
) -> Embeddings:
    """Compute the embeddings of all windows of all clips, or read those of an earlier call.

    They are kept in the cache: one file per dataset, tagger and grid of windows. It is rewritten if
    the clips, their files or the decoder have changed.

    Args:
        dataset: dataset of the clips.
        tower: tower of the tagger.
        clips: waveforms of all clips at its rate.
        progress: whether to show a progress bar on stderr.

    Raises:
        DatasetError: if the file cannot be written.
    """
    windows, owners = tower.windows_of(clips)
    grid = repr((tower.contract, tower.front_end.window_samples, owners.tolist()))
    key = _key(dataset) + hashlib.sha256(grid.encode()).digest()
    name = f"{dataset.name}-{tower.contract.sha256[:12]}-{tower.front_end.window_samples}"
    path = cache_dir() / "embeddings" / f"{name}.float32"
    try:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(key)) == key:
                    return Embeddings(np.load(file, allow_pickle=False), owners)
        embeddings = _embed(windows, tower, f"Listening to {dataset.name}", progress)
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, embeddings.nbytes)
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(key)
            np.save(file, embeddings, allow_pickle=False)
    except OSError as error:
        raise DatasetError(os_reason(error, path)) from error
    return Embeddings(embeddings, owners)


def _embed(windows: FloatArray, tower: TaggerTower, description: str, progress: bool) -> FloatArray:
    """Compute embeddings (n, T, D) of windows, some at a time."""
    parts = []
    with progress_bar(description, len(windows), progress) as advance:
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            parts.append(tower.inputs_of(windows[start : start + _WINDOWS_AT_ONCE]))
            advance(len(parts[-1]))
    return np.concatenate(parts)


def _key(dataset: AudioDataset) -> bytes:
    """Return a digest of the clips, their files' sizes and times, and the decoder."""
    decoder = (dataset.read.__module__, soundfile.__libsndfile_version__, soxr.__version__)
    digest = hashlib.sha256(repr(decoder).encode())
    for clip in dataset.clips:
        state = clip.path.stat() if clip.path else None
        stored = state and (state.st_size, state.st_mtime_ns)
        identity = (clip.name, clip.duration_seconds, clip.segment, stored)
        digest.update(repr(identity).encode())
    return digest.digest()


def _write(
    file: BinaryIO, key: bytes, dataset: AudioDataset, sample_rate_hz: int, progress: bool
) -> None:
    """Write the key, the offset and length of each clip, and the samples in decoding order."""
    lock = threading.Lock()

    def append(clip: Clip) -> tuple[int, int]:
        waveform = dataset.read(clip, sample_rate_hz)
        with lock:
            offset = file.tell()
            file.write(waveform.tobytes())
        return offset, waveform.size

    file.seek(len(key) + _SPAN_BYTES * len(dataset.clips))
    spans = map_files(
        append,
        dataset.clips,
        name_of=lambda clip: clip.name,
        description=f"Decoding {dataset.name}",
        progress=progress,
    )
    file.seek(0)
    file.write(key + np.array(spans, np.int64).tobytes())
    file.flush()


def _map(file: BinaryIO, key: bytes, num_clips: int) -> list[FloatArray]:
    """Return the clips of a file written by `_write`, as views of it."""
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    spans = np.frombuffer(content, np.int64, 2 * num_clips, offset=len(key)).reshape(-1, 2)
    return [np.frombuffer(content, np.float32, size, offset) for offset, size in spans.tolist()]
