"""Sounds outside a packaged model's classes: one half to choose thresholds, one to test them."""

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
    """One half of the other sounds.

    Args:
        categories: of the clips, sorted.
        clips: in playback order.
    """

    categories: tuple[str, ...]
    clips: tuple[Clip, ...]

    def write(self, path: Path, read: AudioDataset) -> None:
        """Write a recording of all clips without pauses.

        Args:
            path: WAV file.
            read: dataset whose `read` method reads the clips.

        Raises:
            DatasetError: if a clip cannot be read.
        """
        sound = np.concatenate([read.read(clip, _RATE_HZ) for clip in self.clips])
        with replacing(path) as temporary:
            soundfile.write(temporary, sound, _RATE_HZ, subtype="PCM_16")


def halves(others: Sequence[tuple[str, Clip]]) -> tuple[OtherSounds, OtherSounds]:
    """Split clips into halves that share no category and no recording.

    Args:
        others: pairs of category and clip.

    Raises:
        DatasetError: if there are fewer than two categories.
    """
    by_category: dict[str, list[Clip]] = defaultdict(list)
    for category, clip in others:
        by_category[category].append(clip)
    if len(by_category) < 2:
        raise DatasetError(
            "thresholds need other sounds of at least two categories, to choose and to test them. "
            f"Received: {len(by_category)}. Give --data-dir with the complete archive."
        )
    sides: tuple[list[str], list[str]] = ([], [])
    clips: tuple[list[Clip], list[Clip]] = ([], [])
    for category in sorted(by_category, key=_random_key):
        side = int(len(clips[0]) > len(clips[1]))
        taken = {clip.source for clip in clips[1 - side]}
        sides[side].append(category)
        clips[side].extend(clip for clip in by_category[category] if clip.source not in taken)
    first, second = (
        OtherSounds(
            tuple(sorted(names)), tuple(sorted(found, key=lambda clip: _random_key(clip.name)))
        )
        for names, found in zip(sides, clips, strict=True)
    )
    return first, second


def _random_key(text: str) -> str:
    """Sort key for a reproducible pseudo-random order."""
    return hashlib.sha256(text.encode()).hexdigest()
