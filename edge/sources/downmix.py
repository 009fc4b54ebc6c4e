"""From the channels of a source to one."""

import logging
import math

import numpy as np

from edge.sources.base import SourceError
from edge.types import FloatArray

_LOGGER = logging.getLogger("semanticac_edge")

MIX = "mix"
_NAMES = {"left": 1, "right": 2}
_MOST_CHANNELS = 256
# Channels that cancel each other leave less than this of their mean energy. Channels without
# anything in common leave half of it.
_CANCELLED = 10 ** (-15 / 10)
_JUDGED_FRAMES = 200_000
_QUIET_ENERGY = 10 ** (-60 / 10)


def channel_number(channel: str) -> int | None:
    """Return the number of a channel, from 1; None for the mix.

    Args:
        channel: `"mix"`, `"left"`, `"right"`, or a number from 1.

    Raises:
        ValueError: if it is something else.
    """
    if channel == MIX:
        return None
    number = _NAMES.get(channel, int(channel) if channel.isdecimal() else 0)
    if not 1 <= number <= _MOST_CHANNELS:
        raise ValueError(
            f"a channel must be mix, left, right or a number from 1 to {_MOST_CHANNELS}, "
            f"not {channel!r}"
        )
    return number


class Downmix:
    """Takes one channel of a stream, or averages all of them.

    Channels of opposite phase, as of a balanced cable in a stereo input, average to silence. That
    is logged once.

    Args:
        channel: see `channel_number`.

    Raises:
        ValueError: if there is no such channel.
    """

    def __init__(self, channel: str = MIX) -> None:
        self._number = channel_number(channel)
        self._frames, self._mixed_energy, self._energy = 0, 0.0, 0.0
        self._warned = False

    def push(self, frames: FloatArray) -> FloatArray:
        """Return the samples (n,) of the next frames (n, channels), in a new array.

        Raises:
            SourceError: if the source has fewer channels.
        """
        channels = frames.shape[1]
        if self._number is not None:
            if self._number > channels:
                raise SourceError(
                    f"The source has {channels} channel{'s' * (channels > 1)}; --channel "
                    f"{self._number} does not exist."
                )
            return frames[:, self._number - 1].copy()
        if channels == 1:
            return frames[:, 0].copy()
        samples: FloatArray = frames.mean(axis=1, dtype=np.float32)
        if not self._warned:
            self._judge(frames, samples)
        return samples

    def _judge(self, frames: FloatArray, mixed: FloatArray) -> None:
        self._frames += len(frames)
        self._energy += float(np.square(frames, dtype=np.float64).mean(axis=1).sum())
        self._mixed_energy += float(np.square(mixed, dtype=np.float64).sum())
        if self._frames < _JUDGED_FRAMES:
            return
        if (
            self._energy > _QUIET_ENERGY * self._frames
            and self._mixed_energy < _CANCELLED * self._energy
        ):
            self._warned = True
            lost = 10 * math.log10(self._energy / max(self._mixed_energy, 1e-12 * self._energy))
            _LOGGER.warning(
                "The channels cancel each other: their mean is %.0f dB quieter than they are. "
                "Choose one of them, such as --channel left.",
                lost,
            )
        self._frames, self._mixed_energy, self._energy = 0, 0.0, 0.0
