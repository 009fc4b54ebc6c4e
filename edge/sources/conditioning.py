"""What is done to the samples of a source before anything else hears them."""

import logging
import math
from collections.abc import Iterator

import numpy as np

from edge.inference.level import FLOOR_DBFS, level_dbfs
from edge.sources.base import Gap, Source
from edge.types import FloatArray

_LOGGER = logging.getLogger("semanticac_edge")

# Below the lowest mel band: it removes a constant offset, and nothing that a model hears.
HIGH_PASS_HZ = 20.0
AUTO = "auto"
# A filter's state is carried from block to block, in which powers of its decay stay finite.
_BLOCK_SAMPLES = 256
_LARGEST = 10.0

_TARGET_DBFS = -20.0
_MOST_GAIN_DB = 30.0
_RISE_DB_PER_SECOND = 0.5
# A loud sound keeps the gain low for some minutes.
_FORGETTING_DB_PER_SECOND = 0.1
_QUIETEST_DBFS = -70.0
_LOGGED_STEP_DB = 6.0


class HighPass:
    """First-order high-pass filter of a stream; the result does not depend on the chunks.

    Args:
        cutoff_hz: frequency that is 3 dB lower; 0 passes everything.
        sample_rate_hz: sample rate of the stream.
    """

    def __init__(self, cutoff_hz: float, sample_rate_hz: int) -> None:
        decay = math.exp(-2.0 * math.pi * cutoff_hz / sample_rate_hz)
        self._powers = decay ** np.arange(1, _BLOCK_SAMPLES + 1)
        self._share = 1.0 - decay
        # The slow part of the signal so far; a stream begins as if it had always been like that.
        self._slow: float | None = None

    def push(self, chunk: FloatArray) -> FloatArray:
        """Filter the next samples, float32 (n,)."""
        if self._share == 0.0 or not chunk.size:
            return chunk
        if self._slow is None:
            self._slow = float(chunk[0])
        filtered = np.empty_like(chunk)
        for start in range(0, len(chunk), _BLOCK_SAMPLES):
            block = chunk[start : start + _BLOCK_SAMPLES].astype(np.float64)
            powers = self._powers[: len(block)]
            # Samples far beyond full scale must not disturb what follows them.
            sane = np.clip(block, -_LARGEST, _LARGEST)
            slow = powers * (self._slow + self._share * np.cumsum(sane / powers))
            filtered[start : start + len(block)] = block - slow
            self._slow = float(slow[-1])
        return filtered


class Gain:
    """Amplifies a stream by a fixed gain, or slowly up to a usual level.

    An automatic gain is chosen so that the loudest second of the last minutes has -20 dBFS. It is 0
    to 30 dB, rises by half a decibel a second, falls at once, and is logged at each change by 6 dB.

    Args:
        gain: decibels, or `"auto"`.
        sample_rate_hz: sample rate of the stream.
    """

    def __init__(self, gain: str, sample_rate_hz: int) -> None:
        self._automatic = gain == AUTO
        self.decibels = 0.0 if self._automatic else gain_decibels(gain)
        self._rate_hz = sample_rate_hz
        self._loudest_dbfs = _TARGET_DBFS
        self._logged_db = 0.0

    def push(self, chunk: FloatArray) -> FloatArray:
        """Amplify the next samples, float32 (n,), and clip them to full scale."""
        if self._automatic and chunk.size:
            self._adapt(chunk)
        if self.decibels == 0.0:
            return chunk
        amplified = chunk * np.float32(10.0 ** (self.decibels / 20.0))
        return np.clip(amplified, -1.0, 1.0, out=amplified)

    def _adapt(self, chunk: FloatArray) -> None:
        seconds = len(chunk) / self._rate_hz
        level = level_dbfs(chunk)
        # Silence, such as that of a muted microphone, says nothing about the place.
        if level > FLOOR_DBFS:
            forgotten = self._loudest_dbfs - _FORGETTING_DB_PER_SECOND * seconds
            self._loudest_dbfs = max(level, forgotten, _QUIETEST_DBFS)
        wanted = min(max(_TARGET_DBFS - self._loudest_dbfs, 0.0), _MOST_GAIN_DB)
        self.decibels = min(wanted, self.decibels + _RISE_DB_PER_SECOND * seconds)
        if abs(self.decibels - self._logged_db) >= _LOGGED_STEP_DB:
            self._logged_db = self.decibels
            _LOGGER.info("The automatic gain is %.0f dB.", self.decibels)


def gain_decibels(gain: str) -> float:
    """Parse a gain.

    Raises:
        ValueError: if it is neither `"auto"` nor a number from -60 to 60; `"auto"` is 0.
    """
    if gain == AUTO:
        return 0.0
    try:
        decibels = float(gain)
    except ValueError:
        decibels = math.nan
    if not -60.0 <= decibels <= 60.0:
        raise ValueError(f"a gain must be auto, or decibels from -60 to 60, not {gain!r}")
    return decibels


class ConditionedSource:
    """A source without what lies below a frequency, amplified.

    Args:
        source: the source.
        sample_rate_hz: sample rate of its chunks.
        high_pass_hz: see `HighPass`.
        gain: see `Gain`.
    """

    def __init__(
        self,
        source: Source,
        sample_rate_hz: int,
        high_pass_hz: float = HIGH_PASS_HZ,
        gain: str = "0",
    ) -> None:
        self._source = source
        self._high_pass = HighPass(high_pass_hz, sample_rate_hz)
        self._gain = Gain(gain, sample_rate_hz)

    def __iter__(self) -> Iterator[FloatArray | Gap]:
        for item in self._source:
            yield item if isinstance(item, Gap) else self._gain.push(self._high_pass.push(item))

    def close(self) -> None:
        """See `Source.close`."""
        self._source.close()
