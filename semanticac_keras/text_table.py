"""Texts with stored vectors, in place of a text encoder."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edge.types import FloatArray
from semanticac_keras.losses import l2_normalize


@keras.saving.register_keras_serializable("semanticac_keras")
class TextTable(keras.layers.Layer):
    """Stored vectors of texts that a text encoder computed before.

    Args:
        num_texts: number of texts N.
        output_dim: size C of the shared embedding space.
        vectors: float (N, C); zeros if not given. A saved model restores them by itself.

    Call arguments:
        token_ids: int32 (n, 1), rows from a `TextRows`.
        normalize: divide each vector by its L2 norm.

    Returns:
        float32 (n, output_dim).
    """

    frozen = True

    def __init__(
        self, num_texts: int, output_dim: int, vectors: FloatArray | None = None, **kwargs
    ):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.num_texts = num_texts
        self.output_dim = output_dim
        self.vectors = self.add_weight(
            shape=(num_texts, output_dim), initializer="zeros", trainable=False, name="vectors"
        )
        if vectors is not None:
            self.vectors.assign(vectors)
        self.built = True

    def call(self, token_ids, normalize=False):
        vectors = ops.take(self.vectors, token_ids[:, 0], axis=0)
        return l2_normalize(vectors) if normalize else vectors

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {"num_texts": self.num_texts, "output_dim": self.output_dim, "name": self.name}


@keras.saving.register_keras_serializable("semanticac_keras")
class TextRows:
    """Tokenizer for a `TextTable`: the row of each text, without regard to case.

    Args:
        texts: the texts of the table, in order.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._rows = {_key(text): row for row, text in enumerate(self.texts)}

    def __contains__(self, text: str) -> bool:
        return _key(text) in self._rows

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the rows of texts.

        Args:
            texts: n of the known texts.

        Returns:
            int32 (n, 1).

        Raises:
            ValueError: if a text is not known.
        """
        if unknown := [text for text in texts if text not in self]:
            raise ValueError(
                f"texts must be among the {len(self.texts)} known ones, such as "
                f"{self.texts[0]!r}; a sentence encoder, such as MiniLM, knows others. "
                f"Received: {unknown[0]!r}"
            )
        return np.array([[self._rows[_key(text)]] for text in texts], np.int32).reshape(-1, 1)

    def get_config(self) -> dict[str, list[str]]:
        """Constructor arguments."""
        return {"texts": list(self.texts)}

    @classmethod
    def from_config(cls, config: dict[str, list[str]]) -> "TextRows":
        """Inverse of `get_config`."""
        return cls(**config)


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()
