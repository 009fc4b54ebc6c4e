import sys

import keras
import numpy as np
import pytest

from semanticac_keras import SubwordTokenizer
from semanticac_keras.subword_tokenizer import TokenizerError
from tests.bert_files import PIECES

pytest.importorskip("tokenizers")


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    return tmp_path


def ids(*pieces):
    return [PIECES.index(piece) for piece in pieces]


def test_texts_are_split_into_pieces_and_padded(directory):
    rows = SubwordTokenizer.from_directory(directory)(["A  DÖG barking", "rains, 東", ""])
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        ids("[CLS]", "a", "dog", "bark", "##ing", "[SEP]"),
        ids("[CLS]", "rain", "##s", ",", "[UNK]", "[SEP]"),
        ids("[CLS]", "[SEP]", "[PAD]", "[PAD]", "[PAD]", "[PAD]"),
    ]
    assert SubwordTokenizer.from_directory(directory)([]).shape == (0, 0)


def test_options_of_the_vocabulary_are_read(directory):
    (directory / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    rows = SubwordTokenizer.from_directory(directory)(["dog Dog"])
    assert rows.tolist() == [ids("[CLS]", "dog", "[UNK]", "[SEP]")]


def test_truncation_and_padding_of_a_definition_are_not_used(directory):
    from tokenizers import Tokenizer

    made = SubwordTokenizer.from_directory(directory)
    definition = Tokenizer.from_str(made.definition)
    definition.enable_truncation(3)
    definition.enable_padding(length=9)
    definition.save(str(directory / "tokenizer.json"))
    texts = ["dog dog dog", "a"]
    np.testing.assert_array_equal(SubwordTokenizer.from_directory(directory)(texts), made(texts))


def test_long_texts_and_padding_tokens_are_refused(directory):
    tokenizer = SubwordTokenizer.from_directory(directory, context_length=5)
    assert tokenizer(["dog dog dog"]).shape == (1, 5)
    with pytest.raises(ValueError, match="must fit 5 tokens"):
        tokenizer(["dog dog dog dog"])
    with pytest.raises(ValueError, match="must not contain the padding token"):
        tokenizer(["a [PAD]"])


def test_a_saved_tokenizer_needs_no_files(directory):
    tokenizer = SubwordTokenizer.from_directory(directory, context_length=7)
    config = keras.saving.serialize_keras_object(tokenizer)
    (directory / "vocab.txt").unlink()
    loaded = keras.saving.deserialize_keras_object(config)
    assert (loaded.context_length, loaded.vocabulary_size) == (7, len(PIECES))
    np.testing.assert_array_equal(loaded(["a dog", "rains"]), tokenizer(["a dog", "rains"]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", r"tokenizer\.json cannot be read as a tokenizer"),
        (
            "vocab.txt",
            "dog\nrain",
            r"vocab\.txt cannot be read as a tokenizer: sep_token not found",
        ),
        ("vocab.txt", "[UNK]\n[CLS]\n[SEP]", r"must have one of \[PAD\], <pad>"),
        ("merges.txt", "#version: 0.2", r"merges\.txt cannot be read as a tokenizer"),
        ("readme.txt", "", r"must have tokenizer\.json, vocab\.txt, or"),
    ],
)
def test_wrong_files_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        SubwordTokenizer.from_directory(tmp_path)
    assert "\n" not in str(caught.value)


def test_byte_pairs_without_a_special_token_are_refused(tmp_path):
    (tmp_path / "vocab.json").write_text('{"<s>": 0, "a": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2")
    with pytest.raises(TokenizerError, match=r"vocab\.json must have the token <pad>"):
        SubwordTokenizer.from_directory(tmp_path)


def test_missing_package_is_reported_with_its_extra(directory, monkeypatch):
    tokenizer = SubwordTokenizer.from_directory(directory)
    loaded = SubwordTokenizer(**tokenizer.get_config())
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for use in (lambda: SubwordTokenizer.from_directory(directory), lambda: loaded(["dog"])):
        with pytest.raises(TokenizerError, match=r"pip install 'semanticac-keras\[text\]'"):
            use()


def test_a_damaged_definition_is_refused():
    with pytest.raises(TokenizerError, match="is not a tokenizer"):
        SubwordTokenizer("{}")(["dog"])
