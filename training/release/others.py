"""Sounds that a shipped model does not know: one half chooses thresholds, the other tests them."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from edge.files import replacing
from training.datasets import AudioDataset, Clip, DatasetError

_RATE_HZ = 44_100


@dataclass(frozen=True)
class OtherSounds:
    """One half of them.

    Args:
        categories: what they are of, sorted.
        clips: in the order in which they are played.
    """

    categories: tuple[str, ...]
    clips: tuple[Clip, ...]

    def write(self, path: Path, read: AudioDataset) -> None:
        """Write one recording of all clips without a pause.

        Args:
            path: WAV file.
            read: the dataset whose `read` reads them.

        Raises:
            DatasetError: if a clip cannot be read.
        """
        sound = np.concatenate([read.read(clip, _RATE_HZ) for clip in self.clips])
        with replacing(path) as temporary:
            soundfile.write(temporary, sound, _RATE_HZ, subtype="PCM_16")


def halves(others: Sequence[tuple[str, Clip]]) -> tuple[OtherSounds, OtherSounds]:
    """Divide clips so that no category and no recording is in both halves.

    Args:
        others: category and clip.

    Raises:
        DatasetError: if there are fewer than two categories.
    """
    by_category: dict[str, list[Clip]] = defaultdict(list)
    for category, clip in others:
        by_category[category].append(clip)
    if len(by_category) < 2:
        raise DatasetError(
            "other sounds of at least two categories are needed to choose thresholds by and to "
            f"test them. Received: {len(by_category)}. Give --data-dir with all of the archive."
        )
    sides: tuple[list[str], list[str]] = ([], [])
    clips: tuple[list[Clip], list[Clip]] = ([], [])
    for category in sorted(by_category, key=_chance):
        side = int(len(clips[0]) > len(clips[1]))
        taken = {clip.source for clip in clips[1 - side]}
        sides[side].append(category)
        clips[side].extend(clip for clip in by_category[category] if clip.source not in taken)
    first, second = (
        OtherSounds(tuple(sorted(names)), tuple(sorted(found, key=lambda clip: _chance(clip.name))))
        for names, found in zip(sides, clips, strict=True)
    )
    return first, second


def _chance(text: str) -> str:
    """A key that sorts texts in an order that has nothing to do with them."""
    return hashlib.sha256(text.encode()).hexdigest()
