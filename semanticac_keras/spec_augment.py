"""SpecAugment: masks stripes of time and frequency while training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("semanticac_keras")
class SpecAugment(keras.layers.Layer):
    """Random time and frequency masking while training; the identity at inference.

    Args:
        time_stripes: number of masked stripes of time.
        max_frames: longest time stripe, in frames.
        mel_stripes: number of masked stripes of frequency.
        max_mels: widest frequency stripe, in mel bands.
        seed: seed of the layer's random stream.

    Call arguments:
        x: (B, frames, mels), normalised to zero mean; masked entries become zero.

    Returns:
        (B, frames, mels).

    Source: Park et al. 2019; the defaults are HTS-AT's.
    """

    def __init__(
        self,
        time_stripes: int = 2,
        max_frames: int = 64,
        mel_stripes: int = 2,
        max_mels: int = 8,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.time_stripes = time_stripes
        self.max_frames = max_frames
        self.mel_stripes = mel_stripes
        self.max_mels = max_mels
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        if not training:
            return x
        batch, frames, mels = ops.shape(x)[0], x.shape[1], x.shape[2]
        keep_frames = self._kept(batch, frames, self.time_stripes, self.max_frames)
        keep_mels = self._kept(batch, mels, self.mel_stripes, self.max_mels)
        keep = ops.expand_dims(keep_frames, 2) * ops.expand_dims(keep_mels, 1)
        return x * ops.cast(keep, x.dtype)

    def _kept(self, batch, size: int, stripes: int, longest: int):
        """Draw a mask (B, size): 0 inside the stripes, 1 outside."""
        kept = ops.ones((batch, size), "float32")
        position = ops.cast(ops.arange(size), "float32")
        for _ in range(stripes):
            length, start = (
                keras.random.uniform((batch, 1), seed=self.seed_generator) for _ in range(2)
            )
            length = ops.floor(length * (min(longest, size) + 1))
            start = ops.floor(start * (size - length + 1))
            inside = ops.logical_and(position >= start, position < start + length)
            kept = ops.where(inside, 0.0, kept)
        return kept

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "time_stripes": self.time_stripes,
            "max_frames": self.max_frames,
            "mel_stripes": self.mel_stripes,
            "max_mels": self.max_mels,
            "seed": self.seed,
        }
