"""CLIP's tokenizer against open_clip's."""

import gzip
import importlib.util
import os
import random
from pathlib import Path

import keras
import numpy as np
import pytest

from semanticac_keras import presets
from semanticac_keras.clip_tokenizer import CLIPTokenizer
from semanticac_keras.download import DigestError, DownloadError

VOCABULARY = os.environ.get("SEMANTICAC_BPE_VOCAB")
needs_vocabulary = pytest.mark.skipif(not VOCABULARY, reason="SEMANTICAC_BPE_VOCAB is not set")

# ruff: noqa: RUF001
PIECES = (
    "dog", "Sea Waves", "can't", "we'LL've", "I'd", "rock'n'roll", "it’s", "'ſ", "3.14159", "٣٤",
    "Ⅷ½", "naïve café", "Ångström", "cafe\u0301", "Z\u0351\u036ba\u0334lgo", "ﬁne ﬂow", "ＦＵＬＬ",
    "東京の雨", "소리", "звук", "ήχος", "صوت", "ध्वनि", "🐶", "👩‍👩‍👧‍👦", "🇨🇭", "☕️", "♪♫",
    "&amp;", "&amp;amp;lt;b&gt;", "&eacute;", "&#x1F600;", "&nbsp;", "&notanentity;", "&#39;s",
    "<|startoftext|>", "<start_of_text>", "<END_OF_TEXT>", "<ſtart_of_text>", "<b>x</b>",
    "schÃ¶n", "âœ” Ã©", "l’humanitÃ©", "a\tb\r\nc", "\u00a0\u2003\u3000", "\x00\x07\x1b[31m",
    "\x1c\x1f", "&#28;", "\u200b\u200d\ufeff", "\u2028", "---", "...!?", "#hash@tag", "C:\\dir",
    "snake_case", "x=y+z²", "€£¥", "\u202eabc", "İstanbul", "ẞ", "antidisestablishmentarianism",
    "a" * 300, "ab" * 150, "\ud7ff\ue000", "𝔘𝔫𝔦", "\U000e0001", "",
)  # fmt: skip
CODE_POINTS = (*range(0x20, 0x17F), *range(0x300, 0x3400), *range(0x1F300, 0x1F700))


def awkward_texts():
    """Each piece alone, then 500 mixtures of pieces and of random code points."""
    rng = random.Random(0)
    yield from PIECES
    for _ in range(350):
        yield rng.choice(["", " ", "'", "\n"]).join(rng.choices(PIECES, k=rng.randint(2, 6)))
    for _ in range(150):
        yield "".join(map(chr, rng.choices(CODE_POINTS, k=20)))


@pytest.fixture(scope="module")
def open_clip_tokenizer():
    """open_clip's `SimpleTokenizer`, from its file: the package also imports an image library."""
    pytest.importorskip("torch")
    package = importlib.util.find_spec("open_clip")
    if package is None:
        pytest.skip("open_clip_torch is not installed")
    path = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer(VOCABULARY)


@needs_vocabulary
def test_ids_are_open_clip_s(open_clip_tokenizer):
    tokenizer = CLIPTokenizer(context_length=10_000)
    texts = list(awkward_texts())
    for text in texts:
        expected = [49_406, *open_clip_tokenizer.encode(text), 49_407]
        assert tokenizer([text])[0].tolist() == expected, repr(text)
    print(f"{len(texts)} texts")
    assert len(texts) >= 500


@needs_vocabulary
def test_ids_are_padded_to_the_longest_text():
    ids = CLIPTokenizer()(["an audio clip of dog", "rain"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [
        [49406, 550, 5766, 9289, 539, 1929, 49407],
        [49406, 2443, 49407, 0, 0, 0, 0],
    ]
    assert CLIPTokenizer()([]).shape == (0, 0)


@needs_vocabulary
def test_long_texts_are_rejected():
    with pytest.raises(ValueError, match="must fit 5 tokens"):
        CLIPTokenizer(context_length=5)(["an audio clip of dog"])


@needs_vocabulary
def test_vocabulary_may_be_unpacked(tmp_path):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(gzip.decompress(Path(VOCABULARY).read_bytes()))
    assert CLIPTokenizer(path)(["rain"]).tolist() == [[49406, 2443, 49407]]


def test_config_rebuilds_it_without_a_vocabulary(monkeypatch):
    monkeypatch.delenv("SEMANTICAC_BPE_VOCAB", raising=False)
    config = keras.saving.serialize_keras_object(CLIPTokenizer("/nowhere", context_length=76))
    tokenizer = keras.saving.deserialize_keras_object(config)
    assert isinstance(tokenizer, CLIPTokenizer)
    assert (tokenizer.context_length, tokenizer.vocabulary_path) == (76, None)


def test_other_file_is_refused(tmp_path):
    path = tmp_path / "vocabulary.txt.gz"
    path.write_bytes(gzip.compress(b"#version: 0.2\nt h\n"))
    with pytest.raises(DigestError, match=r"vocabulary\.txt\.gz is not CLIP's vocabulary"):
        CLIPTokenizer(path)(["rain"])
    with pytest.raises(DownloadError, match="cannot be read"):
        CLIPTokenizer(tmp_path / "missing")(["rain"])


def test_missing_vocabulary_names_the_options(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise DownloadError("no network")

    monkeypatch.delenv("SEMANTICAC_BPE_VOCAB", raising=False)
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path))
    monkeypatch.setattr("semanticac_keras.clip_tokenizer.download", unreachable)
    with pytest.raises(
        DownloadError, match=r"pass its path, set SEMANTICAC_BPE_VOCAB .*no network"
    ):
        CLIPTokenizer()(["rain"])


def test_base_preset_reads_byte_pairs():
    tokenizer = presets.tokenizer("base")
    assert isinstance(tokenizer, CLIPTokenizer)
    assert tokenizer.context_length == 76
