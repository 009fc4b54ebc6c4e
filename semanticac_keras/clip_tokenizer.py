"""CLIP's byte-pair tokenizer."""

import gzip
import hashlib
import html
import os
import zlib
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from semanticac_keras.download import DigestError, DownloadError, cache_dir, download
from semanticac_keras.tokenizer import pad_rows

_VOCABULARY_VARIABLE = "SEMANTICAC_BPE_VOCAB"
_VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
_VOCABULARY_URL = f"https://raw.githubusercontent.com/openai/CLIP/main/clip/{_VOCABULARY_FILE}"
_FILE_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
# Digest of the uncompressed text: copies differ in compression.
_TEXT_SHA256 = "67603cfda2e032ad77b5f8808af37789d590db664b26df8705d2bf8b3c553fc8"
_MAX_TEXT_BYTES = 4 << 20

# Id order: 256 bytes, 256 word-final bytes, the merges, start of text, end of text.
_NUM_MERGES = 48_894
_END_OF_WORD = 256
_FIRST_MERGE = 512
_SPECIAL = {"<start_of_text>": 49_406, "<end_of_text>": 49_407}
_START, _END = _SPECIAL.values()
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@keras.saving.register_keras_serializable("semanticac_keras")
class CLIPTokenizer:
    """Byte-pair tokenizer with open_clip's ids: lower-cased, with start and end tokens.

    The vocabulary is loaded at the first call, from `vocabulary_path`, else from the file that the
    environment variable `SEMANTICAC_BPE_VOCAB` names, else from the user's cache, into which it is
    downloaded if missing. A saved model does not store the path.

    Args:
        vocabulary_path: path of CLIP's `bpe_simple_vocab_16e6.txt.gz`.
        context_length: maximum tokens of a text, start and end included; 76 in the paper.

    Source: Radford et al. 2021, "CLIP", section 2.4.
    """

    vocabulary_size = 49_408

    def __init__(self, vocabulary_path: str | Path | None = None, context_length: int = 77) -> None:
        self.vocabulary_path = vocabulary_path
        self.context_length = context_length
        self._known_words: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Tokenise texts.

        Args:
            texts: n texts.

        Returns:
            int32 token ids (n, L), zero-padded to the longest text.

        Raises:
            ValueError: if a text exceeds the context length.
            DownloadError: if the vocabulary is missing or is not CLIP's.
        """
        rows = [[_START, *self._encode(text), _END] for text in texts]
        return pad_rows(rows, texts, self.context_length)

    def _encode(self, text: str) -> list[int]:
        ids = []
        for word in self._word_pattern.findall(self._clean(text)):
            if word not in self._known_words:
                self._known_words[word] = self._word_ids(word)
            ids += self._known_words[word]
        return ids

    def _clean(self, text: str) -> str:
        text = html.unescape(html.unescape(self._fix_text(text)))
        return " ".join(text.split()).lower()

    def _word_ids(self, word: str) -> list[int]:
        """Merge a word's bytes pair by pair, the earliest merge of the vocabulary first."""
        if word in _SPECIAL:
            return [_SPECIAL[word]]
        ids = [_BYTE_IDS[byte] for byte in word.encode()]
        ids[-1] += _END_OF_WORD
        while candidates := self._merges.keys() & set(pairwise(ids)):
            pair = min(candidates, key=self._merges.__getitem__)
            merged: list[int] = []
            for token in ids:
                if merged and (merged[-1], token) == pair:
                    merged[-1] = self._merges[pair]
                else:
                    merged.append(token)
            ids = merged
        return ids

    @cached_property
    def _merges(self) -> dict[tuple[int, int], int]:
        """Merged id of each mergeable pair of ids."""
        lines = _vocabulary_text(self._vocabulary_file()).split("\n")[1 : 1 + _NUM_MERGES]
        ids = {symbol: _BYTE_IDS[byte] for byte, symbol in _BYTE_SYMBOLS.items()}
        ids |= {f"{symbol}</w>": token + _END_OF_WORD for symbol, token in ids.items()}
        merges = {}
        for token, line in enumerate(lines, _FIRST_MERGE):
            left, right = line.split()
            merges[ids[left], ids[right]] = ids[left + right] = token
        return merges

    def _vocabulary_file(self) -> Path:
        chosen = self.vocabulary_path or os.environ.get(_VOCABULARY_VARIABLE)
        if chosen:
            return Path(chosen).expanduser()
        cached = cache_dir() / _VOCABULARY_FILE
        try:
            download(_VOCABULARY_URL, cached, sha256=_FILE_SHA256, progress=False)
        except DownloadError as error:
            raise DownloadError(
                f"CLIP's vocabulary is missing: pass its path, set {_VOCABULARY_VARIABLE} to it, "
                f"or put {_VOCABULARY_URL} at {cached} ({error})"
            ) from error
        return cached

    @cached_property
    def _word_pattern(self) -> Any:
        import regex

        return regex.compile("|".join([*_SPECIAL, _WORDS]), regex.IGNORECASE)

    @cached_property
    def _fix_text(self) -> Any:
        import ftfy

        return ftfy.fix_text

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments without the path, which is specific to a machine."""
        return {"context_length": self.context_length}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CLIPTokenizer":
        """Inverse of `get_config`."""
        return cls(**config)


def _vocabulary_text(path: Path) -> str:
    """Read and verify a vocabulary file."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as text:
            data = text.read(_MAX_TEXT_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DownloadError(f"{path} cannot be read as CLIP's vocabulary: {error}") from error
    if hashlib.sha256(data).hexdigest() != _TEXT_SHA256:
        raise DigestError(f"{path} is not CLIP's vocabulary. Expected: {_VOCABULARY_FILE}")
    return data.decode()


def _byte_symbols() -> dict[int, str]:
    """Map each byte to its character in the vocabulary file, in id order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    return symbols | {byte: chr(256 + number) for number, byte in enumerate(others)}


_BYTE_SYMBOLS = _byte_symbols()
_BYTE_IDS = {byte: token for token, byte in enumerate(_BYTE_SYMBOLS)}
