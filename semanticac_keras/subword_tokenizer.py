"""Tokenizers of the BERT family, by the package `tokenizers`."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from semanticac_keras.tokenizer import pad_rows

_PADDING_TOKENS = ("[PAD]", "<pad>")


class TokenizerError(ValueError):
    """A tokenizer's files are missing or damaged, or the package `tokenizers` is not installed."""


@keras.saving.register_keras_serializable("semanticac_keras")
class SubwordTokenizer:
    """Tokenizer in the format of the package `tokenizers`, with the ids of `transformers`.

    A saved model stores the whole definition, vocabulary included.

    Args:
        definition: content of a `tokenizer.json`. Its own truncation and padding are not used.
        context_length: maximum tokens of a text, start and end included.

    Raises:
        TokenizerError: at the first use, if the definition is damaged or has no padding token, or
            `tokenizers` is not installed.
    """

    def __init__(self, definition: str, context_length: int = 512) -> None:
        self.definition = definition
        self.context_length = context_length

    @classmethod
    def from_directory(cls, directory: str | Path, context_length: int = 512) -> "SubwordTokenizer":
        """Read the tokenizer of a published model.

        Args:
            directory: has `tokenizer.json`; else `vocab.txt` for BERT's WordPiece, with the options
                of `tokenizer_config.json` if there is one; else `vocab.json` and `merges.txt` for
                RoBERTa's byte pairs.
            context_length: maximum tokens of a text, start and end included.

        Raises:
            TokenizerError: if the files are missing or damaged, or `tokenizers` is not installed.
        """
        directory = Path(directory)
        library = _tokenizers()
        try:
            if (file := directory / "tokenizer.json").is_file():
                tokenizer = library.Tokenizer.from_str(file.read_text(encoding="utf-8"))
            elif (file := directory / "vocab.txt").is_file():
                tokenizer = _word_piece(file)
            elif (file := directory / "merges.txt").is_file():
                tokenizer = _byte_pairs(file)
            else:
                raise TokenizerError(
                    f"{directory} must have tokenizer.json, vocab.txt, or vocab.json and "
                    "merges.txt. Received: none of them"
                )
        except TokenizerError:
            raise
        except Exception as error:  # the library raises nothing more specific
            raise TokenizerError(f"{file} cannot be read as a tokenizer: {error}") from error
        made = cls(tokenizer.to_str(), context_length)
        _ = made.pad_id  # refuses a vocabulary without padding now
        return made

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Tokenise texts.

        Args:
            texts: n texts.

        Returns:
            int32 token ids (n, L), padded with `pad_id` to the longest text.

        Raises:
            ValueError: if a text exceeds the context length or contains the padding token.
            TokenizerError: if the definition is damaged, or `tokenizers` is not installed.
        """
        rows = [self._tokenizer.encode(text).ids for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if self.pad_id in row:
                raise ValueError(f"a text must not contain the padding token. Received: {text!r}")
        return pad_rows(rows, texts, self.context_length, self.pad_id)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return int(self._tokenizer.get_vocab_size())

    @cached_property
    def pad_id(self) -> int:
        """Token id of padding."""
        ids = [self._tokenizer.token_to_id(token) for token in _PADDING_TOKENS]
        known = [token for token in ids if token is not None]
        if not known:
            raise TokenizerError(f"a vocabulary must have one of {', '.join(_PADDING_TOKENS)}")
        return int(known[0])

    @cached_property
    def _tokenizer(self) -> Any:
        library = _tokenizers()
        try:
            tokenizer = library.Tokenizer.from_str(self.definition)
        except Exception as error:  # the library raises nothing more specific
            raise TokenizerError(f"`definition` is not a tokenizer.json: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"definition": self.definition, "context_length": self.context_length}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SubwordTokenizer":
        """Inverse of `get_config`."""
        return cls(**config)


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise TokenizerError(
            "this text encoder's tokenizer needs the package `tokenizers`: "
            f"pip install 'semanticac-keras[text]' ({error})"
        ) from error
    return tokenizers


def _word_piece(vocabulary: Path) -> Any:
    """BERT's tokenizer from its `vocab.txt`."""
    from tokenizers.implementations import BertWordPieceTokenizer

    file = vocabulary.with_name("tokenizer_config.json")
    options = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return BertWordPieceTokenizer.from_file(
        str(vocabulary),
        lowercase=options.get("do_lower_case", True),
        strip_accents=options.get("strip_accents"),
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
    )


def _byte_pairs(merges: Path) -> Any:
    """RoBERTa's tokenizer from its `vocab.json` and `merges.txt`."""
    from tokenizers import processors
    from tokenizers.implementations import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer.from_file(str(merges.with_name("vocab.json")), str(merges))
    for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>"):
        if tokenizer.token_to_id(token) is None:
            raise TokenizerError(f"{merges.with_name('vocab.json')} must have the token {token}")
        tokenizer.add_special_tokens([token])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")),
        ("<s>", tokenizer.token_to_id("<s>")),
        add_prefix_space=False,
    )
    return tokenizer
