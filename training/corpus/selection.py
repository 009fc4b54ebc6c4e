"""Which of the decoded recordings enter a corpus: no copies, no excluded clips, stated shares."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semanticac_keras.progress import progress_bar
from training.corpus.classes import kind_of_class
from training.corpus.decoding import LONGEST_SECONDS, SAMPLE_RATE_HZ
from training.corpus.store import Stored
from training.inspection.fingerprints import Fingerprint, similar_pairs

# Shorter sounds have too few cells for a fingerprint; only exact copies of them are found.
_MIN_FINGERPRINT_SECONDS = 1.0
# Copies differ in length by less than this factor, as encoders pad them.
_LENGTH_RATIO = 1.1
_FINGERPRINT_FRAMES = 100


@dataclass(frozen=True)
class Chosen:
    """A part of a stored recording for a corpus.

    Args:
        stored: the recording.
        kind: its kind.
        start: first sample in the source's file.
        length: number of samples.
    """

    stored: Stored
    kind: str
    start: int
    length: int


def choose(recording: Stored) -> Chosen:
    """Give a recording its kind, and cut it if it is music or speech.

    It is music or speech if the manifest or the tagger finds so. Otherwise the tagger's kind
    counts, if it has one.
    """
    kind = recording.source.kind_of(recording.path)
    heard = kind_of_class(recording.sound_class)
    if kind not in LONGEST_SECONDS and heard is not None:
        kind = heard
    length = recording.length
    if kind in LONGEST_SECONDS:
        length = min(length, round(LONGEST_SECONDS[kind] * SAMPLE_RATE_HZ))
    return Chosen(recording, kind, recording.start + (recording.length - length) // 2, length)


def copies(recordings: Sequence[Stored], progress: bool = False) -> dict[int, int]:
    """Find recordings that are copies of an earlier one: the same samples, or the same sound.

    Args:
        recordings: all recordings, the preferred ones first.
        progress: whether to show a progress bar on stderr.

    Returns:
        From the index of a copy to the index of an earlier recording.
    """
    found: dict[int, int] = {}
    first: dict[str, int] = {}
    for index, recording in enumerate(recordings):
        earlier = first.setdefault(recording.digest, index)
        if earlier != index:
            found[index] = earlier
    long_enough = [
        index
        for index, recording in enumerate(recordings)
        if index not in found and recording.length >= _MIN_FINGERPRINT_SECONDS * SAMPLE_RATE_HZ
    ]
    groups = _of_similar_length(long_enough, recordings)
    with progress_bar("Looking for copies", len(groups), enabled=progress) as advance:
        for group in groups:
            prints = [_beginning(recordings[index].track) for index in group]
            for pair in similar_pairs(prints):
                earlier, later = sorted((group[pair.first], group[pair.second]))
                found[later] = min(earlier, found.get(later, earlier))
            advance(1)
    return found


def within_shares(chosen: Sequence[Chosen], shares: Mapping[str, float]) -> list[Chosen]:
    """Drop recordings of some kinds until each has at most its share of the total length.

    Which ones stay depends on their names alone, and mixes all sources.

    Args:
        chosen: recordings.
        shares: from a kind to its largest share, from 0 to 1.

    Returns:
        The remaining recordings in their order.
    """
    left = list(chosen)
    order = {id(one): index for index, one in enumerate(chosen)}
    while True:
        lengths: dict[str, int] = defaultdict(int)
        for one in left:
            lengths[one.kind] += one.length
        limits = _limits(lengths, shares)
        excess = [kind for kind in shares if lengths[kind] > limits[kind]]
        if not excess:
            return sorted(left, key=lambda one: order[id(one)])
        used: dict[str, int] = defaultdict(int)
        kept = []
        for one in sorted(left, key=_lot):
            if one.kind in excess and used[one.kind] + one.length > limits[one.kind]:
                continue
            used[one.kind] += one.length
            kept.append(one)
        left = kept  # shorter than the limits allow: others may now have too large a share


def _limits(lengths: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the largest lengths of kinds that keep to their shares together."""
    limits: dict[str, float] = {kind: lengths.get(kind, 0) for kind in shares}
    others = sum(length for kind, length in lengths.items() if kind not in shares)
    for _ in range(100):  # each pass comes closer
        total = others + sum(limits.values())
        limits = {kind: min(limit, shares[kind] * total) for kind, limit in limits.items()}
    return limits


def _of_similar_length(indices: Sequence[int], recordings: Sequence[Stored]) -> list[list[int]]:
    """Group indices so that any two of similar length share a group."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index in indices:
        # Groups span two steps and overlap by one.
        step = int(np.log(recordings[index].length) / np.log(_LENGTH_RATIO))
        groups[step].append(index)
        groups[step - 1].append(index)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]


def _beginning(track: Fingerprint) -> Fingerprint:
    """Return a track's first five seconds, padded with silence."""
    part = track[:_FINGERPRINT_FRAMES]
    return np.pad(part, ((0, _FINGERPRINT_FRAMES - len(part)), (0, 0)))


def _lot(one: Chosen) -> str:
    """Return a number drawn by a recording's name."""
    name = f"{one.stored.source.name}/{one.stored.path}"
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
