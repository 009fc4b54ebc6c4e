"""The audio side of the model: sound to a unit vector in the shared space."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray, IntArray
from semanticac_keras.log_mel import LogMel
from semanticac_keras.losses import l2_normalize


@keras.saving.register_keras_serializable("semanticac_keras")
class AudioTower(keras.Model):
    """Log-mel front end, encoder and similarity head in one model.

    Args:
        front_end: the sound it hears.
        encoder: log-mels to a token map, such as `HTSATEncoder`.
        head: token map to a vector, such as `CSCM`.

    Call arguments:
        inputs: float32 waveforms (B, samples) of exactly one window, or log-mels
            (B, num_frames, num_mels).

    Returns:
        float32 unit vectors, (B, C).

    Raises:
        ValueError: if the encoder does not fit the front end, or the input fits neither form.
    """

    def __init__(self, front_end, encoder: keras.Model, head: keras.Layer, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.front_end = (
            front_end if isinstance(front_end, FrontEnd) else FrontEnd.from_json(front_end)
        )
        log_mel_shape = (None, self.front_end.num_frames, self.front_end.num_mels)
        if (encoder.num_frames, encoder.num_mels) != log_mel_shape[1:]:
            raise ValueError(
                f"`encoder` must take log-mels of {log_mel_shape[1:]} as `front_end` makes them. "
                f"Received an encoder of {(encoder.num_frames, encoder.num_mels)}"
            )
        self.log_mel = LogMel(self.front_end, name="log_mel")
        self.encoder = encoder
        self.head = head
        if not head.built:
            head.build(encoder.compute_output_shape(log_mel_shape))
        self.built = True

    @property
    def embedding_dim(self) -> int:
        """Size C of the vectors."""
        return self.head.output_dim

    def call(self, inputs, training=False):
        return self.project(self.token_map(inputs, training), training)

    def token_map(self, inputs, training=False):
        """The encoder's tokens (B, rows, columns, d) of what a call takes."""
        rank = len(inputs.shape)
        if rank == 2:
            if inputs.shape[1] != self.front_end.window_samples:
                raise ValueError(
                    f"waveforms must have {self.front_end.window_samples} samples here; "
                    f"`predict` and `encode_audio` take any length. Received: {inputs.shape[1]}"
                )
            inputs = self.log_mel(inputs)
        elif rank != 3:
            raise ValueError(
                "inputs must be waveforms (B, samples) or log-mels (B, frames, mels). "
                f"Received shape: {tuple(inputs.shape)}"
            )
        return self.encoder(inputs, training=training)

    def project(self, token_map, training=False):
        """Unit vectors, float32 (B, C), of token maps (B, rows, columns, d)."""
        vectors = self.head(token_map, training=training)
        return l2_normalize(ops.cast(vectors, "float32"))

    def build(self, input_shape):
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.embedding_dim)

    def get_config(self):
        return {
            "front_end": self.front_end.to_json(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "head": keras.saving.serialize_keras_object(self.head),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        for part in ("encoder", "head"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


def fit_to_window(
    waveform: FloatArray, window_samples: int, hop_samples: int | None = None
) -> FloatArray:
    """Cut a waveform into windows, (n, window_samples).

    A waveform shorter than a window is repeated until it fills one, as HTS-AT does with 5 s clips;
    a longer one is cut into adjoining windows, the last aligned to its end.

    Args:
        waveform: (samples,), at least one.
        window_samples: samples in a window.
        hop_samples: from one window to the next, if they shall overlap.
    """
    if waveform.size < window_samples:
        return np.resize(waveform, window_samples)[None]
    hop_samples = hop_samples or window_samples
    starts = list(range(0, waveform.size - window_samples + 1, hop_samples))
    if starts[-1] + window_samples < waveform.size:
        starts.append(waveform.size - window_samples)
    return np.stack([waveform[start : start + window_samples] for start in starts])


def window_batch(
    waveforms: FloatArray | Sequence[npt.ArrayLike], window_samples: int
) -> tuple[FloatArray, IntArray]:
    """All windows of several waveforms, and the waveform each came from.

    Args:
        waveforms: (B, samples), or B arrays (samples,) of any lengths; float, mono.
        window_samples: samples in a window.

    Returns:
        Windows (n, window_samples), and indices (n,) in 0 .. B - 1.

    Raises:
        ValueError: if a waveform is empty, not one-dimensional, not float or not finite.
    """
    windows, owners = [], []
    for i, waveform in enumerate(waveforms):
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not waveform.size or waveform.dtype.kind != "f":
            raise ValueError(
                "each waveform must be a float array (samples,) in [-1, 1]. Received for "
                f"waveform {i}: {waveform.dtype} of shape {waveform.shape}"
            )
        if not np.isfinite(waveform).all():
            raise ValueError(f"waveform {i} holds NaN or infinite samples")
        cut = fit_to_window(waveform.astype(np.float32, copy=False), window_samples)
        windows.append(cut)
        owners.extend([i] * len(cut))
    if not windows:
        return np.zeros((0, window_samples), np.float32), np.zeros(0, np.int64)
    return np.concatenate(windows), np.asarray(owners)


def mean_by_owner(values: FloatArray, owners: IntArray, size: int) -> FloatArray:
    """Mean of the rows that belong to each waveform, (size, ...)."""
    total = np.zeros((size, *values.shape[1:]), np.float32)
    np.add.at(total, owners, values)
    count = np.bincount(owners, minlength=size).astype(np.float32)
    total /= count.reshape(-1, *[1] * (values.ndim - 1))
    return total
