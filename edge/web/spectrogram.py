"""Compact spectrogram for the page: log-mel rows as bytes."""

import numpy as np

from edge.inference.frontend import FrontEnd, StreamingLogMel
from edge.types import FloatArray

# Range of a byte in log-mel decibels: from the front end's floor to above a full-scale tone.
FLOOR_DB = -100.0
CEILING_DB = 40.0

_ROWS_PER_SECOND = 25.0


class Spectrogram:
    """Converts samples to rows with one byte per mel band.

    Args:
        front_end: front end of the model, so that the page shows the model's input.

    Attributes:
        rows_per_second: row rate, below the frame rate.
        bands_hz: centre frequency of each band, shape (num_mels,).
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self._log_mel = StreamingLogMel(front_end)
        self._frames_per_row = max(1, round(front_end.frames_per_second / _ROWS_PER_SECOND))
        self._num_mels = front_end.num_mels
        self.rows_per_second = front_end.frames_per_second / self._frames_per_row
        self.bands_hz = front_end.band_centres_hz()
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._log_mel.reset()
        self._frames = np.zeros((0, self._num_mels), np.float32)

    def push(self, chunk: FloatArray) -> bytes:
        """Push the next samples (samples,); return the completed rows, concatenated.

        A row is the maximum over its frames, so that clicks stay visible. NaN and samples far
        beyond full scale count as silence.
        """
        usable = np.where(np.abs(chunk) <= 1e3, chunk, np.float32(0))
        frames = np.concatenate([self._frames, self._log_mel.push(usable)])
        num_rows = len(frames) // self._frames_per_row
        used = num_rows * self._frames_per_row
        self._frames = frames[used:]
        rows = frames[:used].reshape(num_rows, self._frames_per_row, self._num_mels).max(axis=1)
        scaled = (rows - FLOOR_DB) * (255.0 / (CEILING_DB - FLOOR_DB))
        as_bytes: bytes = scaled.clip(0, 255).round().astype(np.uint8).tobytes()
        return as_bytes
