"""What must stay out of a corpus: the recordings of the datasets that models are judged on.

A recording is recognised by the number that Freesound gave it, in its file's name or in a source's
credits, or by its sound: the fingerprint of a clip is looked for everywhere in each recording.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from edge.types import FloatArray
from semanticac_keras.progress import progress_bar
from semanticac_keras.sound_files import AUDIO_SUFFIXES, SoundFileError, read_waveform
from training.corpus.sources import CorpusError
from training.inspection.fingerprints import (
    NUM_CELLS,
    SAMPLE_RATE_HZ,
    Fingerprint,
    fingerprint,
)

_NUMBERS = Path(__file__).with_name("excluded_freesound.txt")
# As Freesound names its files, "123456__author__title.wav", and as others keep the number.
_IN_NAME = re.compile(r"(?:^|[^0-9])(\d{2,7})_{1,2}(?=[^\d_])|freesound[ _.-]?(\d{2,7})", re.I)
_IN_CREDITS = re.compile(
    r"freesound\.org/(?:people/[^/\s]+/sounds|s|samplesViewSingle\.php\?id=)/?(\d+)"
    r"|(?:^|[^\w])(\d{2,7})__[A-Za-z]",
    re.I,
)
# Credits name a file at most this many lines from its source's address.
_LINES_AROUND = 2
_MIN_STEM = 4
_WHOLE = r"(?<![a-z0-9]){}(?![a-z])"

# Least similarity of a recording that holds a clip. Of 100 clips of ESC-50, 10 dB quieter, between
# two others and encoded as Ogg Vorbis, 93 have more; the median is 0.80. Of 9,800 pairs of clips of
# different sources, the most similar has 0.30.
THRESHOLD = 0.45
# Fewer cells, of a click, would be found everywhere by chance.
_MIN_CELLS = 100

_CLIP_FRAMES = 100
_BLOCK_FRAMES = 2048
_STEP_FRAMES = _BLOCK_FRAMES - _CLIP_FRAMES + 1
_CLIPS_AT_ONCE = 256
_BLOCKS_AT_ONCE = 16
# A clip may begin before a recording whose silence was cut.
_PAD_FRAMES = _CLIP_FRAMES // 2
# A product below this part of a clip's own energy is no copy of it.
_LEAST_PRODUCT = 0.25


@cache
def excluded_numbers() -> frozenset[str]:
    """Return Freesound's numbers of the recordings in ESC-50 and UrbanSound8K."""
    lines = _NUMBERS.read_text(encoding="ascii").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def named_recordings(paths: Iterable[str], credits: Mapping[str, str]) -> dict[str, str]:
    """Find files whose name or credits have the number of an excluded recording.

    Args:
        paths: paths of a source's sounds.
        credits: texts of its credits, by path.

    Returns:
        From path to reason.
    """
    found = {}
    paths = list(paths)
    for path in paths:
        for match in _IN_NAME.finditer(PurePosixPath(path).name):
            number = match[1] or match[2]
            if number.lstrip("0") in excluded_numbers():
                found[path] = f"its name has Freesound's number {number}"
    stems = {path: PurePosixPath(path).stem.lower().rstrip("0123456789.-_ ") for path in paths}
    for text in credits.values():
        lines = text.lower().splitlines()
        for number, line in _excluded_lines(lines):
            near = " ".join(lines[max(0, line - _LINES_AROUND) : line + _LINES_AROUND + 1])
            for path, stem in stems.items():
                if len(stem) >= _MIN_STEM and re.search(_WHOLE.format(re.escape(stem)), near):
                    found.setdefault(path, f"its credits have Freesound's number {number}")
    return found


def numbers_in(credits: Mapping[str, str]) -> list[str]:
    """Return the excluded numbers in a source's credits, sorted."""
    return sorted(
        {
            number
            for text in credits.values()
            for number, _ in _excluded_lines(text.lower().splitlines())
        }
    )


def _excluded_lines(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield each excluded number in credits, and the index of its line."""
    for index, line in enumerate(lines):
        for match in _IN_CREDITS.finditer(line):
            number = (match[1] or match[2]).lstrip("0")
            if number in excluded_numbers():
                yield number, index


def read_clips(folders: Sequence[Path], progress: bool = False) -> list[Fingerprint]:
    """Return the fingerprints of all clips in folders, without those too short to be found.

    Raises:
        CorpusError: if a folder has no sounds, or one cannot be read.
    """
    prints = []
    for folder in folders:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
        if not files:
            raise CorpusError(f"{folder} must hold the clips to exclude; it has no sound files.")
        with progress_bar("Reading clips to exclude", len(files), enabled=progress) as advance:
            for file in files:
                try:
                    prints.append(fingerprint(read_waveform(file, SAMPLE_RATE_HZ)))
                except SoundFileError as error:
                    raise CorpusError(f"{file} cannot be read: {error}.") from error
                advance(1)
    return [cells for cells in prints if np.count_nonzero(cells) >= _MIN_CELLS]


def best_similarities(
    tracks: Sequence[Fingerprint], clips: Sequence[Fingerprint], progress: bool = False
) -> FloatArray:
    """Look for clips in the tracks of longer sounds, at every position.

    The similarity is the cosine of a clip and the part of the track that it covers, over the cells
    in which the clip has sound.

    Args:
        tracks: results of `track`.
        clips: results of `fingerprint`.
        progress: whether to show a progress bar on stderr.

    Returns:
        The largest similarity of each track to any clip, (len(tracks),).
    """
    gap = np.zeros((_PAD_FRAMES, NUM_CELLS), np.int8)
    joined = np.concatenate([part for cells in tracks for part in (gap, cells)] or [gap])
    starts = np.cumsum([0, *(_PAD_FRAMES + len(cells) for cells in tracks)])
    best = np.zeros(len(tracks), np.float32)
    steps = range(0, len(joined), _STEP_FRAMES * _BLOCKS_AT_ONCE)
    spectra = [
        _Spectra(clips[i : i + _CLIPS_AT_ONCE]) for i in range(0, len(clips), _CLIPS_AT_ONCE)
    ]
    with progress_bar("Looking for clips", len(steps), enabled=progress) as advance:
        for first in steps:
            blocks = _blocks(joined, first)
            for some in spectra:
                for position, clip in some.candidates(blocks):
                    covered = joined[first + position : first + position + _CLIP_FRAMES]
                    owner = int(np.searchsorted(starts, first + position + _PAD_FRAMES, "right"))
                    owner = min(owner, len(tracks)) - 1
                    best[owner] = max(best[owner], _similarity(clip, covered))
            advance(1)
    return best


class _Spectra:
    """Spectra along time of clips, for their correlation with blocks of a long track."""

    def __init__(self, clips: Sequence[Fingerprint]) -> None:
        self._clips = clips
        cells = np.stack(clips).astype(np.float32)
        self._energies = np.square(cells).sum(axis=(1, 2))
        spectra = np.fft.rfft(cells, _BLOCK_FRAMES, axis=1).conj().astype(np.complex64)
        self._spectra = np.ascontiguousarray(spectra.transpose(1, 0, 2))

    def candidates(self, blocks: FloatArray) -> Iterator[tuple[int, Fingerprint]]:
        """Yield positions from the start of the first block, and the clips to compare there."""
        spectra = np.fft.rfft(blocks, axis=1).astype(np.complex64)
        # Per frequency: (clips, bands) @ (bands, blocks).
        products = self._spectra @ np.ascontiguousarray(spectra.transpose(1, 2, 0))
        for block in range(len(blocks)):
            row = np.ascontiguousarray(products[:, :, block].T)
            found = np.fft.irfft(row, _BLOCK_FRAMES, axis=1)[:, :_STEP_FRAMES]
            peaks = found.argmax(axis=1)
            enough = found[np.arange(len(found)), peaks] >= _LEAST_PRODUCT * self._energies
            for clip in np.flatnonzero(enough).tolist():
                yield block * _STEP_FRAMES + int(peaks[clip]), self._clips[clip]


def _blocks(joined: Fingerprint, first: int) -> FloatArray:
    """Cut some overlapping blocks from a track, padded with silence: (blocks, frames, bands)."""
    length = _STEP_FRAMES * (_BLOCKS_AT_ONCE - 1) + _BLOCK_FRAMES
    some = joined[first : first + length].astype(np.float32)
    some = np.pad(some, ((0, length - len(some)), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(some, _BLOCK_FRAMES, axis=0)
    return view[::_STEP_FRAMES].transpose(0, 2, 1)


def _similarity(clip: Fingerprint, covered: Fingerprint) -> float:
    """Return the cosine over the cells in which the clip has sound."""
    some = clip[: len(covered)].astype(np.float32)
    others = np.where(some != 0, covered, 0).astype(np.float32)
    lengths = np.linalg.norm(clip.astype(np.float32)) * np.linalg.norm(others)
    return float((some * others).sum() / lengths) if lengths else 0.0
