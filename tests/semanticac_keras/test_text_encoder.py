import numpy as np
import pytest
from keras import ops

from semanticac_keras import ByteTokenizer, TextEncoder

SMALL = {
    "vocabulary_size": 258,
    "context_length": 24,
    "width": 16,
    "num_layers": 2,
    "num_heads": 2,
    "output_dim": 12,
}


def encode(encoder, ids, normalize=False):
    return ops.convert_to_numpy(encoder(ops.convert_to_tensor(ids), normalize=normalize))


def test_padding_has_no_effect():
    encoder, ids = TextEncoder(**SMALL), ByteTokenizer(24)(["dog", "sea waves"])
    padded = np.pad(ids, ((0, 0), (0, 24 - ids.shape[1])))
    noisy = np.where(padded == 0, 65, padded)
    expected = encode(encoder, ids)
    np.testing.assert_allclose(encode(encoder, padded), expected, atol=1e-5)
    np.testing.assert_allclose(encode(encoder, noisy), expected, atol=1e-5)


def test_every_earlier_token_has_an_effect():
    encoder, ids = TextEncoder(**SMALL), ByteTokenizer(24)(["abcdef"])
    vector = encode(encoder, ids)
    for position in range(1, ids.shape[1] - 1):
        changed = ids.copy()
        changed[0, position] += 1
        assert np.abs(encode(encoder, changed) - vector).max() > 1e-5


def test_normalize_gives_unit_vectors():
    encoder, ids = TextEncoder(**SMALL), ByteTokenizer(24)(["dog", "cat"])
    vectors, unit = encode(encoder, ids), encode(encoder, ids, normalize=True)
    np.testing.assert_allclose(
        unit, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-5
    )


def test_too_many_tokens_are_rejected():
    with pytest.raises(ValueError, match="at most 24 columns"):
        TextEncoder(**SMALL)(np.zeros((1, 25), np.int32))


@pytest.mark.slow
def test_paper_size():
    encoder = TextEncoder.from_preset("base")
    assert encoder(np.array([[49_406, 320, 49_407]])).shape == (1, 1024)
    # CLIP RN50's text side at the paper's context: tokens, positions, 12 blocks, last norm,
    # projection.
    tokens, positions, block = 49_408 * 512, 76 * 512, 12 * 512**2 + 13 * 512
    assert encoder.count_params() == tokens + positions + 12 * block + 1024 + 512 * 1024


def test_tokenizer_writes_bytes_between_start_and_end():
    ids = ByteTokenizer()(["Dög", " a \n b "])
    assert ids.tolist() == [
        [256, 100, 195, 182, 103, 257],
        [256, 97, 32, 98, 257, 0],
    ]
    assert ids.dtype == np.int32


def test_tokenizer_rejects_long_texts():
    with pytest.raises(ValueError, match="of 12 tokens"):
        ByteTokenizer(11)(["0123456789"])
