"""Text to token ids."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt

START_TOKEN, END_TOKEN = 256, 257


@keras.saving.register_keras_serializable("semanticac_keras")
class ByteTokenizer:
    """Lower-cased UTF-8 bytes between a start and an end token: 258 ids and no vocabulary file.

    Args:
        context_length: longest text in tokens, start and end included.
    """

    vocabulary_size = 258

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Token ids of each text, padded with zeros to the longest, shape (n, L).

        Raises:
            ValueError: if a text does not fit the context.
        """
        rows = [
            [START_TOKEN, *" ".join(text.split()).lower().encode(), END_TOKEN] for text in texts
        ]
        return pad_rows(rows, texts, self.context_length)

    def get_config(self) -> dict[str, int]:
        """Constructor arguments."""
        return {"context_length": self.context_length}

    @classmethod
    def from_config(cls, config: dict[str, int]) -> "ByteTokenizer":
        """Inverse of `get_config`."""
        return cls(**config)


def pad_rows(
    rows: Sequence[Sequence[int]], texts: Sequence[str], context_length: int
) -> npt.NDArray[np.int32]:
    """Token ids of several texts as one array, padded with zeros to the longest.

    Args:
        rows: token ids of each text.
        texts: the texts, for the error.
        context_length: longest row allowed.

    Raises:
        ValueError: if a text does not fit the context.
    """
    for text, row in zip(texts, rows, strict=True):
        if len(row) > context_length:
            raise ValueError(
                f"a text must fit {context_length} tokens. "
                f"Received: {text!r} of {len(row)} tokens. Shorten the label or the prompt."
            )
    ids = np.zeros((len(rows), max(map(len, rows), default=0)), np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids
