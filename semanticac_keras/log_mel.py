"""Log-mel spectrogram as a Keras layer, from the device's own front-end contract."""

import math
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from edge.frontend import FrontEnd

_DB_PER_NEPER = 10.0 / math.log(10.0)


@keras.saving.register_keras_serializable("semanticac_keras")
class LogMel(keras.layers.Layer):
    """Waveforms to log-mel frames; agrees with `edge.frontend.log_mel` on every backend.

    Always computes in float32: bfloat16 cannot hold a waveform's dynamic range.

    Args:
        front_end: the contract, or its `to_json()` form.
        method: `"rfft"` uses the backend's transform. `"dft"` multiplies by the transform's matrix
            and pads by a matrix product, so that an exported graph is matrix products throughout.

    Call arguments:
        waveforms: float32, shape (B, samples), in [-1, 1], more than `n_fft // 2` samples.

    Returns:
        float32 decibels, shape (B, 1 + samples // hop_length, num_mels).

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
        frames = self._frames(waveforms)  # (B, T, n_fft)
        power = self._power_rfft(frames) if self.method == "rfft" else self._power_dft(frames)
        mel = ops.maximum(power, self.front_end.amin)
        return ops.log(mel) * _DB_PER_NEPER

    def _frames(self, waveforms):
        """Overlapping centred frames, built from hop-sized blocks without a gather."""
        n_fft, hop = self.front_end.n_fft, self.front_end.hop_length
        half, num_samples = n_fft // 2, waveforms.shape[1]
        if self.method == "rfft":
            padded = ops.pad(waveforms, ((0, 0), (half, half)), mode="reflect")
        else:
            exchange = np.eye(half, dtype=np.float32)[::-1]
            left = ops.matmul(waveforms[:, 1 : half + 1], exchange)
            right = ops.matmul(waveforms[:, num_samples - half - 1 : num_samples - 1], exchange)
            padded = ops.concatenate([left, waveforms, right], axis=1)
        num_frames = self.front_end.frames_in(num_samples)
        blocks_per_frame = math.ceil(n_fft / hop)
        num_blocks = num_frames + blocks_per_frame - 1
        missing = max(0, num_blocks * hop - (num_samples + n_fft))
        padded = ops.pad(padded, ((0, 0), (0, missing)))[:, : num_blocks * hop]
        blocks = ops.reshape(padded, (-1, num_blocks, hop))
        parts = []
        for i in range(blocks_per_frame):
            width = min(hop, n_fft - i * hop)
            parts.append(blocks[:, i : i + num_frames, :width])
        return ops.concatenate(parts, axis=-1)

    def _power_rfft(self, frames):
        real, imaginary = ops.rfft(frames * self.front_end.window())
        power = ops.square(real) + ops.square(imaginary)
        return ops.matmul(power, self.front_end.mel_matrix())

    def _power_dft(self, frames):
        """The transform by matrix products, over the bins that reach a mel band.

        cos is even and sin odd about the frame's centre, so samples n and n_fft - n are added
        (subtracted) first, which halves the products.
        """
        n_fft, mel_matrix = self.front_end.n_fft, self.front_end.mel_matrix()
        half = n_fft // 2
        used = np.flatnonzero(mel_matrix.any(axis=1))
        bins = np.arange(used[0], used[-1] + 1)
        angles = 2.0 * np.pi * np.outer(np.arange(half + 1), bins) / n_fft
        window = self.front_end.window()[: half + 1, None]  # symmetric: window[n] == window[-n]
        cosine = (window * np.cos(angles)).astype(np.float32)
        sine = (window * np.sin(angles)).astype(np.float32)
        exchange = np.eye(half - 1, dtype=np.float32)[::-1]
        first = frames[..., 1:half]
        mirrored = ops.matmul(frames[..., half + 1 :], exchange)
        even = ops.concatenate(
            [frames[..., :1], first + mirrored, frames[..., half : half + 1]], axis=-1
        )
        real = ops.matmul(even, cosine)
        imaginary = ops.matmul(first - mirrored, sine[1:half])
        return ops.matmul(ops.square(real) + ops.square(imaginary), mel_matrix[bins])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.front_end.frames_in(input_shape[1]), self.front_end.num_mels)

    def get_config(self):
        return {
            "front_end": self.front_end.to_json(),
            "method": self.method,
            "name": self.name,
        }
