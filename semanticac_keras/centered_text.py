"""A sentence encoder whose vectors are compared around the centre of a set of texts."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edge.types import FloatArray
from semanticac_keras.losses import l2_normalize

_TEXTS_AT_ONCE = 256


@keras.saving.register_keras_serializable("semanticac_keras")
class CenteredText(keras.Model):
    """Frozen text encoder, less what its vectors of short texts have in common.

    A sentence encoder's unit vectors of labels share a large part, which says no more than "a short
    text". Without it, unrelated texts have a cosine near zero.

    Args:
        encoder: text encoder, which is frozen.

    Call arguments:
        token_ids: int32 (B, L), as for the encoder.
        normalize: unused; the vectors are unit vectors.

    Returns:
        float32 unit vectors (B, C).
    """

    frozen = True

    def __init__(self, encoder: keras.Model, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.encoder = encoder
        self.output_dim = encoder.output_dim
        self.center = self._constant((encoder.output_dim,), "center")
        self.trainable = False
        self.built = True

    def _constant(self, shape: tuple[int, ...], name: str) -> keras.Variable:
        return self.add_weight(
            shape=shape,
            initializer="zeros",
            trainable=False,
            dtype="float32",
            autocast=False,
            name=name,
        )

    def build(self, input_shape):
        self.built = True

    def call(self, token_ids, normalize=False):
        vectors = self.encoder(ops.convert_to_tensor(token_ids), normalize=True)
        return l2_normalize(ops.cast(vectors, "float32") - self.center)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {"encoder": keras.saving.serialize_keras_object(self.encoder), "name": self.name}

    @classmethod
    def from_config(cls, config):
        encoder = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**{**config, "encoder": encoder})


def unit_vectors(
    encoder: keras.Model,
    tokenizer: Callable[[Sequence[str]], npt.NDArray[np.int32]],
    texts: Sequence[str],
) -> FloatArray:
    """Encode any number of texts, some at a time.

    Args:
        encoder: text encoder.
        tokenizer: the encoder's.
        texts: n texts.

    Returns:
        float32 unit vectors (n, C).

    Raises:
        ValueError: if the tokenizer refuses a text.
    """
    parts = [
        encoder(ops.convert_to_tensor(tokenizer(texts[start:][:_TEXTS_AT_ONCE])), normalize=True)
        for start in range(0, len(texts), _TEXTS_AT_ONCE)
    ]
    return np.concatenate([ops.convert_to_numpy(part) for part in parts]).astype(np.float32)
