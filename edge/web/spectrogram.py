"""The picture of the sound: log-mel rows as bytes, few enough for a phone."""

import numpy as np

from edge.inference.frontend import FrontEnd, StreamingLogMel
from edge.types import FloatArray

# What a byte spans, in log-mel decibels: the front end's floor to a full-scale tone and more.
FLOOR_DB = -100.0
CEILING_DB = 40.0

_ROWS_PER_SECOND = 25.0


class Spectrogram:
    """Turns samples into rows of one byte a mel band.

    Args:
        front_end: of the model, so that the page shows what the model sees.

    Attributes:
        rows_per_second: after thinning.
        bands_hz: centre of each band, shape (num_mels,).
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self._log_mel = StreamingLogMel(front_end)
        self._frames_per_row = max(1, round(front_end.frames_per_second / _ROWS_PER_SECOND))
        self._num_mels = front_end.num_mels
        self.rows_per_second = front_end.frames_per_second / self._frames_per_row
        bins_hz = np.fft.rfftfreq(front_end.n_fft, 1 / front_end.sample_rate_hz)
        mel_matrix = front_end.mel_matrix()
        # A band narrower than a bin may hold none; its neighbours say where it lies.
        weights = mel_matrix.sum(axis=0)
        held = np.flatnonzero(weights)
        centres_hz = (bins_hz @ mel_matrix)[held] / weights[held]
        self.bands_hz = np.interp(np.arange(self._num_mels), held, centres_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._log_mel.reset()
        self._frames = np.zeros((0, self._num_mels), np.float32)

    def push(self, chunk: FloatArray) -> bytes:
        """Take the next samples (samples,); return the rows they complete, row after row.

        A row is the loudest of its frames, so that clicks are not thinned away. Samples without a
        value, or far beyond full scale, count as silence.
        """
        usable = np.where(np.abs(chunk) <= 1e3, chunk, np.float32(0))
        frames = np.concatenate([self._frames, self._log_mel.push(usable)])
        num_rows = len(frames) // self._frames_per_row
        whole = num_rows * self._frames_per_row
        self._frames = frames[whole:]
        rows = frames[:whole].reshape(num_rows, self._frames_per_row, self._num_mels).max(axis=1)
        scaled = (rows - FLOOR_DB) * (255.0 / (CEILING_DB - FLOOR_DB))
        as_bytes: bytes = scaled.clip(0, 255).round().astype(np.uint8).tobytes()
        return as_bytes
