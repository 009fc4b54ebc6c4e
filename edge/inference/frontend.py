"""The front-end contract and its numpy implementation: waveform in, log-mel frames out.

`FrontEnd` holds every number that training and the device must agree on. The Keras layer
`semanticac_keras.LogMel` takes its window and its mel matrix from here, so they exist once.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edge.inference.ring import Ring
from edge.types import FloatArray

# Frames per block: the working memory of a block fits the cache, which is four times as fast.
_BLOCK_FRAMES = 128
# Larger float32 products wake OpenBLAS's threads, which cost ten times the computation itself.
_SINGLE_THREAD_MULTIPLIES = 1 << 18


@dataclass(frozen=True)
class FrontEnd:
    """Parameters of the log-mel front end. The defaults are HTS-AT's.

    Args:
        sample_rate_hz: rate of the mono waveform.
        n_fft: samples in an analysis window (periodic Hann), even.
        hop_length: samples between frames, less than `n_fft // 2`.
        num_mels: Slaney-normalised triangular mel bands.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band, at most half the sample rate.
        amin: power below which the logarithm is clipped.
        window_seconds: length of one classifier window.

    Raises:
        ValueError: if the numbers are inconsistent.
    """

    sample_rate_hz: int = 32_000
    n_fft: int = 1024
    hop_length: int = 320
    num_mels: int = 64
    fmin_hz: float = 50.0
    fmax_hz: float = 14_000.0
    amin: float = 1e-10
    window_seconds: float = 10.0

    def __post_init__(self) -> None:
        counts = (self.sample_rate_hz, self.n_fft, self.hop_length, self.num_mels)
        checks = {
            "sample_rate_hz, n_fft, hop_length and num_mels must be whole numbers": all(
                isinstance(count, int) for count in counts
            ),
            "sample_rate_hz must be positive": self.sample_rate_hz > 0,
            "n_fft must be even and positive": self.n_fft > 0 and self.n_fft % 2 == 0,
            "hop_length must be in 1 .. n_fft // 2 - 1": 0 < self.hop_length < self.n_fft // 2,
            "num_mels must be positive": self.num_mels > 0,
            "0 <= fmin_hz < fmax_hz <= sample_rate_hz / 2 must hold": (
                0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2
            ),
            "amin must be positive": self.amin > 0,
            "window_seconds must hold at least n_fft samples": self.window_samples >= self.n_fft,
        }
        for message, holds in checks.items():
            if not holds:
                raise ValueError(f"{message}. Received: {self}")

    @property
    def window_samples(self) -> int:
        """Samples in one classifier window."""
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def num_frames(self) -> int:
        """Log-mel frames in one classifier window."""
        return self.frames_in(self.window_samples)

    @property
    def frames_per_second(self) -> float:
        """Log-mel frames per second of audio."""
        return self.sample_rate_hz / self.hop_length

    def frames_in(self, num_samples: int) -> int:
        """Number of frames that `log_mel` computes from `num_samples` samples."""
        return 1 + num_samples // self.hop_length if num_samples else 0

    def window(self) -> FloatArray:
        """Periodic Hann window, shape (n_fft,)."""
        return _hann_window(self.n_fft)

    def mel_matrix(self) -> FloatArray:
        """Slaney mel filterbank, shape (n_fft // 2 + 1, num_mels): power spectrum to mel power."""
        return _mel_matrix(
            self.sample_rate_hz, self.n_fft, self.num_mels, self.fmin_hz, self.fmax_hz
        )

    def band_centres_hz(self) -> npt.NDArray[np.float64]:
        """Centre frequency of each mel band, in Hz, shape (num_mels,)."""
        return _mel_edges_hz(self.num_mels, self.fmin_hz, self.fmax_hz)[1:-1]

    def to_json(self) -> dict[str, Any]:
        """Plain values for the bundle's contract."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_json`; unknown or missing names raise `TypeError`."""
        return cls(**values)


def log_mel(waveform: npt.ArrayLike, front_end: FrontEnd) -> FloatArray:
    """Log-mel spectrogram with centred frames and reflected edges, as librosa computes it.

    Args:
        waveform: float samples in [-1, 1], mono, shape (samples,).
        front_end: the contract.

    Returns:
        float32 decibels, shape (1 + samples // hop_length, num_mels); no frames for no samples.

    Raises:
        ValueError: if the waveform is not one-dimensional.
    """
    samples = _as_mono(waveform)
    if samples.size == 0:
        return np.zeros((0, front_end.num_mels), np.float32)
    half = front_end.n_fft // 2
    return _Frames(front_end).log_mel(np.pad(samples, half, mode="reflect"))


class StreamingLogMel:
    """Log-mel frames of a stream that arrives in chunks of any size.

    The frames of all `push` calls and the final `flush`, joined, equal `log_mel` of the complete
    stream, including the reflected ends. Frame t is returned once
    `hop_length * t + n_fft // 2` samples have arrived (frame 0: one more).

    Args:
        front_end: the contract.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        self._block_samples = _BLOCK_FRAMES * front_end.hop_length
        # Less than one frame waits for more samples, and `push` adds at most a block at a time.
        self._samples = Ring(front_end.n_fft + self._block_samples, np.float32)
        self._frames = _Frames(front_end)
        self.reset()

    def reset(self) -> None:
        """Drop the stream; the next chunk starts a new one."""
        self._samples.reset()
        self._started = False
        self._next_start = 0  # first sample of the next frame

    def push(self, chunk: npt.ArrayLike) -> FloatArray:
        """Add samples, shape (samples,); return the frames they complete, (frames, mels)."""
        chunk = _as_mono(chunk)
        if chunk.size <= self._block_samples:
            return self._take(chunk)
        starts = range(0, chunk.size, self._block_samples)
        return np.concatenate(
            [self._take(chunk[start : start + self._block_samples]) for start in starts]
        )

    def flush(self) -> FloatArray:
        """End the stream: return its last frames and reset."""
        rest = self._samples.rows(self._next_start, self._samples.seen)
        if self._started:
            half = self.front_end.n_fft // 2
            frames = self._frames.log_mel(np.pad(rest, (0, half), mode="reflect"))
        else:
            frames = log_mel(rest, self.front_end)
        self.reset()
        return frames

    def _take(self, samples: FloatArray) -> FloatArray:
        """Compute the frames completed by at most a block of samples."""
        ring, half = self._samples, self.front_end.n_fft // 2
        ring.append(samples)
        if not self._started:
            if ring.seen <= half:
                return np.zeros((0, self.front_end.num_mels), np.float32)
            padded = np.pad(ring.rows(0, ring.seen), (half, 0), mode="reflect")
            ring.reset()
            ring.append(padded)
            self._started = True
        frames = self._frames.log_mel(ring.rows(self._next_start, ring.seen))
        self._next_start += len(frames) * self.front_end.hop_length
        return frames


def _as_mono(waveform: npt.ArrayLike) -> FloatArray:
    samples = np.asarray(waveform, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"a waveform must have shape (samples,). Received: {samples.shape}")
    return samples


class _Frames:
    """Computes log-mel frames, block by block, in preallocated memory.

    Args:
        front_end: the contract.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end
        self._windowed = np.empty((_BLOCK_FRAMES, front_end.n_fft), np.float32)
        self._power = np.empty((_BLOCK_FRAMES, front_end.n_fft // 2 + 1), np.float32)
        self._spectrum = np.empty(self._power.shape, np.complex64)
        # numpy 1 computes complex128 spectra and allocates them itself.
        self._has_out = np.fft.rfft(np.zeros(2, np.float32)).dtype == np.complex64

    def log_mel(self, padded: FloatArray) -> FloatArray:
        """Every complete frame of `padded`, in decibels, (frames, mels)."""
        front_end = self._front_end
        frames = max(0, 1 + (padded.size - front_end.n_fft) // front_end.hop_length)
        out = np.empty((frames, front_end.num_mels), np.float32)
        if not frames:
            return out
        windows = np.lib.stride_tricks.sliding_window_view(padded, front_end.n_fft)
        windows = windows[:: front_end.hop_length]
        for start in range(0, frames, _BLOCK_FRAMES):
            block = slice(start, start + _BLOCK_FRAMES)
            self._mel_power(windows[block], out[block])
        np.maximum(out, np.float32(front_end.amin), out=out)
        np.log10(out, out=out)
        return np.multiply(out, np.float32(10.0), out=out)

    def _mel_power(self, windows: FloatArray, out: FloatArray) -> None:
        """Compute the mel power of up to a block of frames, on one core."""
        frames, mel_matrix = len(windows), self._front_end.mel_matrix()
        windowed, power = self._windowed[:frames], self._power[:frames]
        np.multiply(windows, self._front_end.window(), out=windowed)
        if self._has_out:
            out_spectrum: Any = self._spectrum[:frames]  # numpy's stubs accept only complex128
            spectrum = np.fft.rfft(windowed, axis=-1, out=out_spectrum)
        else:
            spectrum = np.fft.rfft(windowed, axis=-1)
        squares = spectrum.view(spectrum.real.dtype)  # real and imaginary parts interleaved
        np.square(squares, out=squares)
        np.add(squares[:, ::2], squares[:, 1::2], out=power, casting="same_kind")
        rows = max(1, _SINGLE_THREAD_MULTIPLIES // mel_matrix.size)
        for start in range(0, frames, rows):
            np.matmul(power[start : start + rows], mel_matrix, out=out[start : start + rows])


@lru_cache(maxsize=8)
def _hann_window(n_fft: int) -> FloatArray:
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    window.flags.writeable = False
    return window


def _mel_edges_hz(num_mels: int, fmin_hz: float, fmax_hz: float) -> npt.NDArray[np.float64]:
    """Lower edge, centre and upper edge of band i are entries i, i + 1 and i + 2."""
    return _mel_to_hz(np.linspace(_hz_to_mel(fmin_hz), _hz_to_mel(fmax_hz), num_mels + 2))


@lru_cache(maxsize=8)
def _mel_matrix(
    sample_rate_hz: int, n_fft: int, num_mels: int, fmin_hz: float, fmax_hz: float
) -> FloatArray:
    bins_hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate_hz)
    edges_hz = _mel_edges_hz(num_mels, fmin_hz, fmax_hz)
    lower, centre, upper = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - lower) / (centre - lower)
    falling = (upper - bins_hz[:, None]) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    matrix = (triangles * (2.0 / (upper - lower))).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


# Slaney's auditory-toolbox scale: linear to 1 kHz (3 mels for 200 Hz), then 27 steps per ln 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _LINEAR_HZ_PER_MEL
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, linear, logarithmic)
