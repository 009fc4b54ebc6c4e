"""The text side of labels by class names: how near a text is to each class of a tagger."""

from collections.abc import Callable, Sequence
from typing import Self

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from semanticac_keras.centered_text import CenteredText, unit_vectors
from semanticac_keras.losses import l2_normalize

TEMPERATURE = 0.07


@keras.saving.register_keras_serializable("semanticac_keras")
class ClassProfile(CenteredText):
    """Text encoder that compares a text with the names of a tagger's K classes.

    The profile q has a share for each class: the softmax of the cosines between the text and the
    names, divided by the temperature. Before, the mean of the names is subtracted from text and
    names, see `CenteredText`. The output is [q, sqrt(1 - |q|²)], a unit
    vector: its cosine with [a, 0], as a `ClassOdds` gives, is q · a / |a|.

    Args:
        encoder: text encoder, which is frozen.
        class_names: names of the classes, in the order of the tagger's scores.
        temperature: the lower, the fewer classes have a share.

    Call arguments:
        token_ids: int32 (B, L), as for the encoder.
        normalize: unused; the vectors are unit vectors.

    Returns:
        float32 (B, K + 1).
    """

    def __init__(
        self,
        encoder: keras.Model,
        class_names: Sequence[str],
        temperature: float = TEMPERATURE,
        **kwargs,
    ):
        super().__init__(encoder, **kwargs)
        self.class_names = tuple(class_names)
        self.temperature = temperature
        self.output_dim = len(self.class_names) + 1
        self.name_vectors = self._constant((len(self.class_names), encoder.output_dim), "names")

    @classmethod
    def from_names(
        cls,
        encoder: keras.Model,
        tokenizer: Callable[[Sequence[str]], npt.NDArray[np.int32]],
        class_names: Sequence[str],
        **kwargs,
    ) -> Self:
        """Create a profile, and encode the names of the classes.

        Args:
            encoder: text encoder.
            tokenizer: the encoder's.
            class_names: names of the classes, in the order of the tagger's scores.
            **kwargs: constructor arguments.

        Raises:
            ValueError: if the tokenizer refuses a name.
        """
        profile = cls(encoder, class_names, **kwargs)
        vectors = unit_vectors(encoder, tokenizer, profile.class_names)
        center = vectors.mean(axis=0)
        profile.center.assign(center)
        profile.name_vectors.assign(l2_normalize(ops.convert_to_tensor(vectors - center)))
        return profile

    def shares(self, token_ids):
        """Return the profiles of texts: float32 (B, K), rows sum to 1."""
        cosines = ops.matmul(super().call(token_ids), ops.transpose(self.name_vectors))
        return ops.softmax(cosines / self.temperature, axis=-1)

    def call(self, token_ids, normalize=False):
        return _completed(self.shares(token_ids))

    def nearest(self, token_ids, count: int = 3) -> list[list[tuple[str, float]]]:
        """Name the classes with the largest shares of texts.

        Args:
            token_ids: int32 (n, L), as for the encoder.
            count: number of classes.

        Returns:
            For each text, up to `count` names with their shares, the largest first.
        """
        return [
            [(self.class_names[k], float(row[k])) for k in np.argsort(-row)[:count]]
            for row in ops.convert_to_numpy(self.shares(token_ids))
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "class_names": list(self.class_names),
            "temperature": self.temperature,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class NameMixture(ClassProfile):
    """Text encoder that mixes the vectors of known names, for towers that were trained on these.

    The mixture m is the mean of the names' vectors, weighted by the shares of a `ClassProfile`. The
    output is [m, sqrt(1 - |m|²)], a unit vector: its cosine with a clip's [a, 0] is the mean of the
    clip's cosines with the names, weighted in the same way. A text near to no name is near to no
    clip.

    Args:
        encoder: text encoder of size C, which is frozen.
        class_names: the K names.
        **kwargs: see `ClassProfile`.

    Call arguments:
        token_ids: int32 (B, L), as for the encoder.
        normalize: unused; the vectors are unit vectors.

    Returns:
        float32 (B, C + 1).
    """

    def __init__(self, encoder: keras.Model, class_names: Sequence[str], **kwargs):
        super().__init__(encoder, class_names, **kwargs)
        self.output_dim = encoder.output_dim + 1

    def call(self, token_ids, normalize=False):
        return _completed(ops.matmul(self.shares(token_ids), self.name_vectors))


def _completed(vectors):
    """Append to vectors, at most 1 long, the value that makes them unit vectors."""
    rest = 1.0 - ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return ops.concatenate([vectors, ops.sqrt(ops.maximum(rest, 0.0))], axis=-1)
