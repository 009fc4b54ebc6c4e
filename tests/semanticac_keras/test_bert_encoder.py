import keras
import numpy as np
import pytest
from keras import ops

from semanticac_keras import BertEncoder

SMALL = {
    "vocabulary_size": 30,
    "context_length": 12,
    "width": 16,
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 24,
}
IDS = np.array([[2, 9, 3, 0, 0], [2, 7, 8, 9, 3]], np.int32)


def make(**options):
    """An encoder with kernels large enough for every part to matter."""
    keras.utils.set_random_seed(0)
    encoder = BertEncoder(**{**SMALL, **options})
    encoder.set_weights([5 * w if w.ndim == 2 else w for w in encoder.get_weights()])
    return encoder


def encode(encoder, ids, normalize=False):
    return ops.convert_to_numpy(encoder(ops.convert_to_tensor(ids), normalize=normalize))


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_padding_has_no_effect(pooling):
    encoder = make(pooling=pooling)
    alone = encode(encoder, IDS[:1, :3])
    np.testing.assert_allclose(encode(encoder, IDS)[:1], alone, atol=1e-5)
    # The same texts, padded with another id.
    other = make(pooling=pooling, pad_id=29)
    other.set_weights(encoder.get_weights())
    padded = np.where(IDS == 0, 29, IDS)
    np.testing.assert_allclose(encode(other, padded), encode(encoder, IDS), atol=1e-5)
    assert np.abs(encode(encoder, padded)[0] - alone[0]).max() > 1e-3


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_every_token_and_its_place_have_an_effect(pooling):
    encoder = make(pooling=pooling)
    text = IDS[1:]
    vector = encode(encoder, text)
    for position in range(text.shape[1]):
        changed = text.copy()
        changed[0, position] += 10
        assert np.abs(encode(encoder, changed) - vector).max() > 1e-5
    assert np.abs(encode(encoder, text[:, [0, 2, 1, 3, 4]]) - vector).max() > 1e-5


def test_an_offset_shifts_the_positions():
    encoder, offset = make(), make(position_offset=2)
    weights = encoder.get_weights()
    weights[1] = np.pad(weights[1], ((2, 0), (0, 0)))
    offset.set_weights(weights)
    np.testing.assert_allclose(encode(offset, IDS), encode(encoder, IDS), atol=1e-6)


def test_normalize_gives_unit_vectors():
    encoder = make(mlp_dim=10, output_dim=7)
    vectors, unit = encode(encoder, IDS), encode(encoder, IDS, normalize=True)
    assert unit.shape == (2, 7)
    np.testing.assert_allclose(
        unit, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-5
    )


@pytest.mark.parametrize(
    ("sizes", "output_dim"),
    [({}, 16), ({"mlp_dim": 10}, 10), ({"mlp_dim": 10, "output_dim": 7}, 7)],
)
def test_the_last_layer_determines_the_size(sizes, output_dim):
    encoder = make(**sizes)
    assert encoder.output_dim == output_dim
    assert encoder(IDS).shape == encoder.compute_output_shape(IDS.shape) == (2, output_dim)


def test_only_the_projection_of_a_frozen_encoder_is_trained():
    encoder = make(pooling="pooler", mlp_dim=10, output_dim=7, frozen=True)
    assert [variable.name for variable in encoder.trainable_variables] == ["kernel"]
    assert encoder.trainable_variables[0] is encoder.projection.kernel
    assert not make(frozen=True).trainable
    assert len(make().trainable_variables) == len(encoder.weights) - 7


def test_a_fresh_projection_keeps_cosines():
    encoder = make(output_dim=16)
    unprojected = make()
    unprojected.set_weights(encoder.get_weights()[:-1])
    before, after = (encode(model, IDS, normalize=True) for model in (unprojected, encoder))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pooling": "pooler", "mlp_dim": 10, "output_dim": 7, "frozen": True},
        {"pooling": "cls", "pad_id": 1, "position_offset": 2, "epsilon": 1e-5},
    ],
)
def test_a_saved_encoder_is_the_same(options, tmp_path):
    encoder = make(**options)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    assert loaded.get_config() == encoder.get_config()
    assert len(loaded.trainable_variables) == len(encoder.trainable_variables)
    np.testing.assert_array_equal(encode(loaded, IDS), encode(encoder, IDS))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_nearly_the_same_float32_vectors(policy):
    encoder = make(pooling="pooler", mlp_dim=10, output_dim=7)
    mixed = make(pooling="pooler", mlp_dim=10, output_dim=7, dtype=policy)
    mixed.set_weights(encoder.get_weights())
    vectors = mixed(ops.convert_to_tensor(IDS), normalize=True)
    assert keras.backend.standardize_dtype(vectors.dtype) == "float32"
    norms = np.linalg.norm(ops.convert_to_numpy(vectors), axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-4)
    expected = encode(encoder, IDS, normalize=True)
    np.testing.assert_allclose(ops.convert_to_numpy(vectors), expected, atol=0.05)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`pooling` must be one of"):
        make(pooling="max")
    with pytest.raises(ValueError, match="`num_heads` must divide `width`"):
        make(num_heads=3)
    with pytest.raises(ValueError, match="at most 12 columns"):
        make()(np.zeros((1, 13), np.int32))
