"""Learned class vectors instead of a text encoder: the baseline without text."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from semanticac_keras.losses import l2_normalize


@keras.saving.register_keras_serializable("semanticac_keras")
class ClassVectors(keras.layers.Layer):
    """Trainable vector per class, used instead of a `TextEncoder`.

    With `targets="prototype"`, a `SemanticAC` with class vectors is exactly a cosine-softmax
    classifier: a bias-free dense layer over unit vectors, times a learned scale.

    Args:
        num_classes: number of classes K.
        output_dim: size C of the shared embedding space.

    Call arguments:
        token_ids: int32 (n, 1), class indices from `ClassIndex`.
        normalize: divide each vector by its L2 norm.

    Returns:
        (n, output_dim).

    Source: SemanticAC, Table 3, row "Baseline".
    """

    def __init__(self, num_classes: int, output_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.output_dim = output_dim
        self.vectors = self.add_weight(
            shape=(num_classes, output_dim),
            initializer=keras.initializers.RandomNormal(stddev=output_dim**-0.5),
            name="vectors",
        )
        self.built = True

    def call(self, token_ids, normalize=False):
        vectors = ops.take(self.vectors, token_ids[:, 0], axis=0)
        return l2_normalize(vectors) if normalize else vectors

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "output_dim": self.output_dim,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class ClassIndex:
    """Tokenizer for `ClassVectors`: one token per class.

    Args:
        labels: class names, distinct.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the class indices.

        Args:
            texts: exactly the labels, in order.

        Returns:
            int32 (K, 1).

        Raises:
            ValueError: if the texts are not the labels.
        """
        if tuple(texts) != self.labels:
            raise ValueError(
                f"texts must be the {len(self.labels)} labels themselves, in order: this model has "
                f"learned class vectors and no text encoder. Received: {list(texts)}"
            )
        return np.arange(len(self.labels), dtype=np.int32)[:, None]

    def get_config(self) -> dict[str, list[str]]:
        """Constructor arguments."""
        return {"labels": list(self.labels)}

    @classmethod
    def from_config(cls, config: dict[str, list[str]]) -> "ClassIndex":
        """Inverse of `get_config`."""
        return cls(**config)
