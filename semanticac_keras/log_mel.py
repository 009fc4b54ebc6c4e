"""Log-mel spectrogram layer that follows the edge runtime's front-end contract."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from edge.inference.frontend import FrontEnd

_DB_PER_NEPER = 10.0 / math.log(10.0)


@keras.saving.register_keras_serializable("semanticac_keras")
class LogMel(keras.layers.Layer):
    """Log-mel spectrogram; agrees with `edge.inference.frontend.log_mel` on every backend.

    Always computes in float32: bfloat16 lacks the precision for a waveform's dynamic range.

    Args:
        front_end: front-end contract, or its `to_json()` form.
        method: Fourier transform. `"rfft"` uses the backend's. `"dft"`, for exported graphs,
            multiplies by constant matrices, which a CPU delegate runs and int8 export keeps exact.

    Call arguments:
        waveforms: float32 (B, samples) in [-1, 1], with more than `n_fft // 2` samples.

    Returns:
        float32 decibels, (B, 1 + samples // hop_length, num_mels).

    Raises:
        ValueError: if `method` is unknown, or the waveforms are too short or of unknown length.
    """

    def __init__(
        self,
        front_end: FrontEnd | dict[str, Any],
        method: Literal["rfft", "dft"] = "rfft",
        name: str | None = None,
    ) -> None:
        super().__init__(dtype="float32", autocast=False, trainable=False, name=name)
        if method not in ("rfft", "dft"):
            raise ValueError(f'`method` must be "rfft" or "dft". Received: {method!r}')
        self.front_end = (
            front_end if isinstance(front_end, FrontEnd) else FrontEnd.from_json(front_end)
        )
        self.method = method

    def call(self, waveforms):
        waveforms = ops.cast(waveforms, "float32")
        num_samples, half = waveforms.shape[1], self.front_end.n_fft // 2
        if num_samples is None or num_samples <= half:
            raise ValueError(
                f"waveforms must have a known length above {half} samples. "
                f"Received shape: {tuple(waveforms.shape)}"
            )
        return self._by_rfft(waveforms) if self.method == "rfft" else self._by_dft(waveforms)

    def _blocks(self, padded, num_frames: int, after_frames: int):
        """Cut a padded waveform into hops, (B, blocks, hop); frame t starts at block t."""
        num_blocks = num_frames + after_frames
        missing = max(0, num_blocks * self.front_end.hop_length - padded.shape[1])
        padded = ops.pad(padded, ((0, 0), (0, missing)))
        padded = padded[:, : num_blocks * self.front_end.hop_length]
        return ops.reshape(padded, (-1, num_blocks, self.front_end.hop_length))

    def _by_rfft(self, waveforms):
        n_fft, hop = self.front_end.n_fft, self.front_end.hop_length
        padded = ops.pad(waveforms, ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
        num_frames = self.front_end.frames_in(waveforms.shape[1])
        parts = _frame_parts(n_fft, hop)
        blocks = self._blocks(padded, num_frames, len(parts) - 1)
        frames = ops.concatenate(
            [blocks[:, i : i + num_frames, :width] for i, width in enumerate(parts)], axis=-1
        )  # (B, T, n_fft)
        real, imaginary = ops.rfft(ops.multiply(frames, self.front_end.window()))
        power = ops.square(real) + ops.square(imaginary)
        mel = ops.matmul(power, self.front_end.mel_matrix())  # (B, T, mels)
        return _DB_PER_NEPER * ops.log(ops.maximum(mel, self.front_end.amin))

    def _by_dft(self, waveforms):
        """Compute the same with constant matrices on the left and frames along the last axis.

        The transform of n = n1 · n2 points takes two steps (Cooley-Tukey): n1-point transforms of
        the samples i, i + n2, i + 2 · n2, ..., a rotation, and n2-point transforms across them. All
        constants stay within the range of float16, in which `amin` would underflow.
        """
        n_fft, hop = self.front_end.n_fft, self.front_end.hop_length
        num_samples, half = waveforms.shape[1], n_fft // 2
        num_frames = self.front_end.frames_in(num_samples)
        left = _reverse(waveforms[:, 1 : half + 1])
        right = _reverse(waveforms[:, num_samples - half - 1 : num_samples - 1])
        padded = ops.concatenate([left, waveforms, right], axis=1)
        parts = _frame_parts(n_fft, hop)
        blocks = ops.transpose(self._blocks(padded, num_frames, len(parts) - 1), (0, 2, 1))
        frames = ops.concatenate(
            [blocks[:, :width, i : i + num_frames] for i, width in enumerate(parts)], axis=1
        )  # (B, n_fft, T)

        step = _two_step_dft(self.front_end)
        n1, n2, rows = step.n1, step.n2, step.rows
        x = ops.reshape(ops.multiply(frames, step.window), (-1, n1, n2 * num_frames))
        real = ops.reshape(ops.matmul(step.cos1, x), (-1, rows, n2, num_frames))
        imaginary = ops.reshape(ops.matmul(step.sin1, x), (-1, rows, n2, num_frames))
        turn_cos, turn_sin = map(ops.convert_to_tensor, (step.turn_cos, step.turn_sin))
        turned_real = real * turn_cos - imaginary * turn_sin
        turned_imaginary = real * turn_sin + imaginary * turn_cos
        x = ops.concatenate([turned_real, turned_imaginary], axis=2)  # (B, rows, 2·n2, T)
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, 2 * n2, rows * num_frames))
        real, imaginary = ops.matmul(step.real2, x), ops.matmul(step.imaginary2, x)
        power = ops.square(real) + ops.square(imaginary)  # (B, n2, rows·T)
        power = ops.reshape(power, (-1, n2 * rows, num_frames))
        mel = ops.transpose(ops.matmul(step.mel, power), (0, 2, 1))  # 1 / amin times (B, T, mels)
        floor_db = 10.0 * math.log10(self.front_end.amin)
        return _DB_PER_NEPER * ops.log(ops.maximum(mel, 1.0)) + floor_db

    def compute_output_shape(self, input_shape):
        num_samples = input_shape[1]
        num_frames = None if num_samples is None else self.front_end.frames_in(num_samples)
        return (input_shape[0], num_frames, self.front_end.num_mels)

    def get_config(self):
        return {
            "front_end": self.front_end.to_json(),
            "method": self.method,
            "name": self.name,
        }


@dataclass(frozen=True)
class _TwoStepDFT:
    """Constants of `LogMel._by_dft`; bin c + n1 · d is row c of step one, row d of step two."""

    n1: int
    n2: int
    rows: int
    window: np.ndarray
    cos1: np.ndarray
    sin1: np.ndarray
    turn_cos: np.ndarray
    turn_sin: np.ndarray
    real2: np.ndarray
    imaginary2: np.ndarray
    mel: np.ndarray


def _two_step_dft(front_end: FrontEnd) -> _TwoStepDFT:
    n = front_end.n_fft
    n1 = next(i for i in range(math.isqrt(n), 0, -1) if n % i == 0)
    n2 = n // n1
    rows = n1 // 2 + 1  # of a real signal: row n1 - c is the conjugate of row c
    step1 = 2 * np.pi * np.outer(np.arange(rows), np.arange(n1)) / n1
    turn = 2 * np.pi * np.outer(np.arange(rows), np.arange(n2)) / n
    step2 = 2 * np.pi * np.outer(np.arange(n2), np.arange(n2)) / n2
    cos2, sin2 = np.cos(step2), np.sin(step2)

    # Power at (d, c) is that of bin c + n1 · d, or of its mirror image n - (c + n1 · d).
    bins = (np.arange(rows)[None, :] + n1 * np.arange(n2)[:, None]).ravel()
    folded = np.minimum(bins, n - bins)
    count = np.bincount(folded, minlength=n // 2 + 1)
    mel = (front_end.mel_matrix() / count[:, None])[folded].T  # a bin that occurs twice counts half

    gain = front_end.amin**-0.25  # amplitude; with the mel matrix' share, 1 / amin on the power

    def constant(values, *shape):
        return np.ascontiguousarray(values, np.float32).reshape(1, *shape)

    return _TwoStepDFT(
        n1=n1,
        n2=n2,
        rows=rows,
        window=constant(gain * front_end.window(), n, 1),
        cos1=constant(np.cos(step1), rows, n1),
        sin1=constant(-np.sin(step1), rows, n1),
        turn_cos=constant(np.cos(turn), rows, n2, 1),
        turn_sin=constant(-np.sin(turn), rows, n2, 1),
        real2=constant(np.concatenate([cos2, sin2], axis=1), n2, 2 * n2),
        imaginary2=constant(np.concatenate([-sin2, cos2], axis=1), n2, 2 * n2),
        mel=constant(mel * front_end.amin**-0.5, front_end.num_mels, n2 * rows),
    )


def _frame_parts(n_fft: int, hop: int) -> list[int]:
    """Samples of a frame in each of the consecutive hops it covers."""
    return [min(hop, n_fft - start) for start in range(0, n_fft, hop)]


def _reverse(x):
    """Reverse axis 1 by two small products: the CPU delegate does not support reversed slices."""
    size = x.shape[1]
    rows = next(i for i in range(math.isqrt(size), 0, -1) if size % i == 0)
    columns = size // rows
    x = ops.matmul(_exchange(rows), ops.reshape(x, (-1, rows, columns)))
    x = ops.matmul(_exchange(columns), ops.transpose(x, (0, 2, 1)))
    return ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, size))


def _exchange(size: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[None, ::-1]
