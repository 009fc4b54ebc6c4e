"""Audio tower: sound to a unit vector in the shared embedding space."""

import math
from collections.abc import Sequence
from typing import Self

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray, IntArray
from semanticac_keras import presets
from semanticac_keras.heads import Head, head_from_preset
from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.log_mel import LogMel
from semanticac_keras.losses import l2_normalize
from semanticac_keras.sound_files import MAX_AMPLITUDE, peak_of


class Tower(keras.Model):
    """Base of audio towers: an encoder to a token map, and a similarity head.

    Args:
        front_end: sample rate and window length of the sound, see `AudioTower`.
        encoder: model from its inputs to a token map (B, rows, columns, d).
        head: layer from the token map to a vector, such as `CSCM`.
        whole_repeats: see `AudioTower`.

    Attributes:
        takes_waveforms: whether `inputs_of` returns the windows themselves.
    """

    takes_waveforms = True

    def __init__(
        self,
        front_end,
        encoder: keras.Model,
        head: keras.Layer,
        whole_repeats: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.whole_repeats = whole_repeats
        self.front_end = (
            front_end if isinstance(front_end, FrontEnd) else FrontEnd.from_json(front_end)
        )
        self.encoder = encoder
        self.head = head
        if not head.built:
            head.build((None, *encoder.output_grid, encoder.output_dim))
        self.built = True

    @property
    def embedding_dim(self) -> int:
        """Size C of the embedding."""
        return self.head.output_dim

    def call(self, inputs, training=False):
        return self.project(self.token_map(inputs, training), training)

    def token_map(self, inputs, training=False):
        """Encode call inputs to a token map (B, rows, columns, d)."""
        raise NotImplementedError

    def project(self, token_map, training=False):
        """Project token maps (B, rows, columns, d) to float32 unit vectors (B, C)."""
        vectors = self.head(token_map, training=training)
        return l2_normalize(ops.cast(vectors, "float32"))

    def windows_of(
        self, waveforms: FloatArray | Sequence[npt.ArrayLike]
    ) -> tuple[FloatArray, IntArray]:
        """Cut waveforms of any lengths into windows, see `window_batch`."""
        return window_batch(waveforms, self.front_end.window_samples, self.whole_repeats)

    def inputs_of(self, windows: FloatArray) -> FloatArray:
        """Return the call inputs of windows (n, window_samples); computed on the host."""
        return windows

    def with_parts(self, encoder: keras.Model, head: keras.Layer) -> Self:
        """Create a tower of the same kind with another encoder and head."""
        raise NotImplementedError

    def build(self, input_shape):
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.embedding_dim)

    def get_config(self):
        return {
            "front_end": self.front_end.to_json(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "head": keras.saving.serialize_keras_object(self.head),
            "whole_repeats": self.whole_repeats,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            part: keras.saving.deserialize_keras_object(config[part])
            for part in ("encoder", "head")
        }
        return cls(**{**config, **parts})


@keras.saving.register_keras_serializable("semanticac_keras")
class AudioTower(Tower):
    """Log-mel front end, audio encoder and similarity head.

    Args:
        front_end: `FrontEnd` that the log-mels are computed with, or its `to_json()` form.
        encoder: model from log-mels to a token map, such as `HTSATEncoder`.
        head: layer from a token map to a vector, such as `CSCM`.
        whole_repeats: how `SemanticAC.predict` and others fill a window with a shorter waveform:
            repeat it, and cut the last repeat; or, if true, repeat it only whole and append
            silence, as CLAP does.

    Call arguments:
        inputs: float32 waveforms (B, samples) in [-1, 1], exactly one window long, or log-mels
            (B, num_frames, num_mels) in decibels.

    Returns:
        float32 unit vectors, (B, C).

    Raises:
        ValueError: if the encoder's input shape differs from the front end's, or the input has
            neither form or is not float.
    """

    def __init__(
        self,
        front_end,
        encoder: keras.Model,
        head: keras.Layer,
        whole_repeats: bool = False,
        **kwargs,
    ):
        super().__init__(front_end, encoder, head, whole_repeats, **kwargs)
        log_mel_shape = (self.front_end.num_frames, self.front_end.num_mels)
        if (encoder.num_frames, encoder.num_mels) != log_mel_shape:
            raise ValueError(
                f"`encoder` must take log-mels of shape {log_mel_shape}, as `front_end` "
                f"makes them. Received: {(encoder.num_frames, encoder.num_mels)}"
            )
        self.log_mel = LogMel(self.front_end, name="log_mel")

    @classmethod
    def from_preset(
        cls, preset: str, head: Head = "cscm", output_dim: int | None = None, **overrides
    ) -> Self:
        """Create a tower at a preset's size, with random weights.

        Args:
            preset: one of `semanticac_keras.presets.PRESETS`.
            head: one of `semanticac_keras.HEADS`.
            output_dim: size C of the shared embedding space; the preset's if not given.
            **overrides: arguments of `HTSATEncoder` that replace the preset's.

        Raises:
            ValueError: if the preset or the head is unknown.
        """
        encoder = HTSATEncoder.from_preset(preset, name="audio_encoder", **overrides)
        similarity = head_from_preset(head, preset, output_dim=output_dim)
        return cls(presets.get(preset).front_end, encoder, similarity, name="audio")

    def token_map(self, inputs, training=False):
        """Encode call inputs to a token map (B, rows, columns, d)."""
        check_float(inputs)
        rank = len(inputs.shape)
        if rank == 2:
            if inputs.shape[1] != self.front_end.window_samples:
                raise ValueError(
                    f"waveforms must have {self.front_end.window_samples} samples. "
                    f"Received: {inputs.shape[1]}. `predict` and `encode_audio` take any length"
                )
            inputs = self.log_mel(inputs)
        elif rank != 3:
            raise ValueError(
                "inputs must be waveforms (B, samples) or log-mels (B, frames, mels). "
                f"Received shape: {tuple(inputs.shape)}"
            )
        return self.encoder(inputs, training=training)

    def with_parts(self, encoder: keras.Model, head: keras.Layer) -> Self:
        """Create a tower of the same kind with another encoder and head."""
        return type(self)(self.front_end, encoder, head, self.whole_repeats)


def fit_to_window(
    waveform: FloatArray,
    window_samples: int,
    hop_samples: int | None = None,
    whole_repeats: bool = False,
) -> FloatArray:
    """Cut a waveform into windows.

    A waveform shorter than a window is repeated until it fills one, as HTS-AT does with 5 s clips;
    a longer one is cut into adjoining windows, the last aligned to its end.

    Args:
        waveform: float32 (samples,), not empty.
        window_samples: samples in a window.
        hop_samples: samples between the starts of two windows; a window if not given.
        whole_repeats: repeat a short waveform only whole, and append silence, as CLAP does.

    Returns:
        float32 (n, window_samples).
    """
    if waveform.size < window_samples and whole_repeats:
        repeated = np.tile(waveform, window_samples // waveform.size)
        return np.pad(repeated, (0, window_samples - repeated.size))[None]
    if waveform.size < window_samples:
        return np.resize(waveform, window_samples)[None]
    hop_samples = hop_samples or window_samples
    starts = list(range(0, waveform.size - window_samples + 1, hop_samples))
    if starts[-1] + window_samples < waveform.size:
        starts.append(waveform.size - window_samples)
    return np.stack([waveform[start : start + window_samples] for start in starts])


def window_batch(
    waveforms: FloatArray | Sequence[npt.ArrayLike],
    window_samples: int,
    whole_repeats: bool = False,
) -> tuple[FloatArray, IntArray]:
    """Cut several waveforms into windows, and note which waveform each came from.

    Args:
        waveforms: float (B, samples), or B float arrays (samples,) of any lengths; mono.
        window_samples: samples in a window.
        whole_repeats: see `fit_to_window`.

    Returns:
        float32 windows (n, window_samples), and waveform indices (n,) in 0 .. B - 1.

    Raises:
        ValueError: if a waveform is empty, not one-dimensional, not float, not finite or beyond
            `MAX_AMPLITUDE`.
    """
    windows, owners = [], []
    for i, waveform in enumerate(waveforms):
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not waveform.size or waveform.dtype.kind != "f":
            raise ValueError(
                "each waveform must be a float array (samples,) in [-1, 1]. Received for "
                f"waveform {i}: {waveform.dtype} of shape {waveform.shape}"
            )
        check_samples(waveform, f"waveform {i}")
        cut = fit_to_window(
            waveform.astype(np.float32, copy=False), window_samples, whole_repeats=whole_repeats
        )
        windows.append(cut)
        owners.extend([i] * len(cut))
    if not windows:
        return np.zeros((0, window_samples), np.float32), np.zeros(0, np.int64)
    return np.concatenate(windows), np.asarray(owners)


def check_float(inputs) -> None:
    """Reject integers, which would be waveforms without their scale.

    Raises:
        ValueError: if the array or tensor is not float.
    """
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"inputs must be float: waveforms in [-1, 1] or log-mels in decibels. Received: {dtype}"
        )


def check_samples(waveforms: npt.ArrayLike, name: str) -> None:
    """Reject samples that are not finite, or far outside [-1, 1].

    Args:
        waveforms: float, any shape.
        name: of the waveforms, for the message.

    Raises:
        ValueError: if a sample is NaN or beyond `MAX_AMPLITUDE`.
    """
    peak = peak_of(np.asarray(waveforms))
    if not math.isfinite(peak):
        raise ValueError(f"{name} must be finite. Received: NaN or infinite samples")
    if peak > MAX_AMPLITUDE:
        raise ValueError(f"{name} must be in [-1, 1]. Received: samples up to {peak:g}")


def mean_by_owner(values: FloatArray, owners: IntArray, size: int) -> FloatArray:
    """Average the rows of each waveform.

    Args:
        values: float32 (n, ...).
        owners: waveform index of each row, (n,).
        size: number of waveforms.

    Returns:
        float32 (size, ...).
    """
    total = np.zeros((size, *values.shape[1:]), np.float32)
    np.add.at(total, owners, values)
    count = np.bincount(owners, minlength=size).astype(np.float32)
    total /= count.reshape(-1, *[1] * (values.ndim - 1))
    return total
