"""Byte tokenizer, and padding of token ids."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt

START_TOKEN, END_TOKEN = 256, 257


@keras.saving.register_keras_serializable("semanticac_keras")
class ByteTokenizer:
    """Tokenizer of lower-cased UTF-8 bytes, with start and end tokens: 258 ids, no vocabulary file.

    Args:
        context_length: maximum tokens of a text, start and end included.
    """

    vocabulary_size = 258

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Tokenise texts.

        Args:
            texts: n texts.

        Returns:
            int32 token ids (n, L), zero-padded to the longest text.

        Raises:
            ValueError: if a text exceeds the context length.
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
    rows: Sequence[Sequence[int]], texts: Sequence[str], context_length: int, pad_id: int = 0
) -> npt.NDArray[np.int32]:
    """Stack rows of token ids, padded to the longest.

    Args:
        rows: token ids of n texts.
        texts: the texts, for the error message.
        context_length: maximum length of a row.
        pad_id: token id of padding.

    Returns:
        int32 (n, L).

    Raises:
        ValueError: if a row exceeds the context length.
    """
    for text, row in zip(texts, rows, strict=True):
        if len(row) > context_length:
            raise ValueError(
                f"a text must fit {context_length} tokens. "
                f"Received: {text!r} of {len(row)} tokens. Shorten the label or the prompt."
            )
    ids = np.full((len(rows), max(map(len, rows), default=0)), pad_id, np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids
