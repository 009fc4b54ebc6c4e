import keras
import numpy as np
import pytest
from keras import ops

from semanticac_keras import (
    HEADS,
    MeanPooling,
    PooledMLP,
    SemanticAC,
    SeqLSTM,
    SeqTransformer,
    export_tflite,
)
from tests.clips import LABELS

EAGER = keras.backend.backend() == "tensorflow"


def token_map(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def apply(head, x):
    return ops.convert_to_numpy(head(x))


def shuffled(x):
    """The same tokens in another order."""
    tokens = x.reshape(len(x), -1, x.shape[-1])
    order = np.random.default_rng(1).permutation(tokens.shape[1])
    return tokens[:, order].reshape(x.shape)


@pytest.mark.parametrize("name", HEADS)
def test_head_is_restored_from_config_and_weights(name):
    x = token_map(3, 2, 4, 16)
    head = HEADS[name](20)
    expected = apply(head, x)
    assert expected.shape == (3, 20) == head.compute_output_shape(x.shape)
    copy = HEADS[name].from_config(head.get_config())
    assert copy.get_config() == head.get_config()
    copy.build((None, *x.shape[1:]))
    copy.set_weights(head.get_weights())
    np.testing.assert_allclose(apply(copy, x), expected, atol=1e-6)


def test_mean_pooling_projects_the_mean_token():
    x, head = token_map(3, 2, 4, 16), MeanPooling(20)
    np.testing.assert_allclose(
        apply(head, x), apply(head.projection, x.mean(axis=(1, 2))), atol=1e-5
    )


def test_pooled_mlp_projects_the_rectified_mean_token():
    x, head = token_map(3, 2, 4, 16), PooledMLP(20)
    vectors = apply(head, x)
    kernel, bias = head.hidden.get_weights()
    hidden = np.maximum(x.mean(axis=(1, 2)) @ kernel + bias, 0.0)
    np.testing.assert_allclose(vectors, apply(head.projection, hidden), atol=1e-5)


def test_seq_lstm_matches_keras_lstm():
    x, head = token_map(3, 2, 4, 16), SeqLSTM(20)
    vectors = apply(head, x)
    lstm = keras.layers.LSTM(16, return_sequences=True)
    lstm.build((None, 8, 16))
    kernel, bias, recurrent = (*head.input_gates.get_weights(), *head.recurrent_gates.get_weights())
    bias[16:32] += 1  # the forget gate's bias, which the head adds itself
    lstm.set_weights([kernel, recurrent, bias])
    tokens = x.reshape(3, 8, 16)
    mean = (tokens + apply(lstm, tokens)).mean(axis=1)
    np.testing.assert_allclose(vectors, apply(head.projection, mean), atol=1e-5)


def test_seq_transformer_adds_its_output_to_the_tokens():
    x, head = token_map(3, 2, 4, 16), SeqTransformer(20, num_layers=0)
    head.build(x.shape)
    positions = ops.convert_to_numpy(head.positional_embedding)
    mean = (2 * x.reshape(3, 8, 16) + positions).mean(axis=1)
    np.testing.assert_allclose(apply(head, x), apply(head.projection, mean), atol=1e-5)


def test_only_sequence_heads_depend_on_token_order():
    x, transformer = token_map(3, 2, 4, 16), SeqTransformer(20, num_layers=1)

    def change(head):
        return np.abs(apply(head, x) - apply(head, shuffled(x))).max()

    assert change(MeanPooling(20)) < 1e-5
    assert change(SeqLSTM(20)) > 1e-3
    assert change(transformer) > 1e-3
    # Not causal: without the learned positions, the order has no effect.
    transformer.positional_embedding.assign(np.zeros((8, 16)))
    assert change(transformer) < 1e-5


def test_unknown_heads_and_invalid_sizes_are_rejected(micro):
    with pytest.raises(ValueError, match="`head` must be one of"):
        SemanticAC.from_preset(micro, LABELS, head="seqTransf")
    with pytest.raises(ValueError, match="`num_heads` must divide `width`"):
        SeqTransformer(20, num_heads=3).build((None, 2, 4, 16))


@pytest.mark.parametrize("name", HEADS)
def test_every_weight_is_trained_and_saved(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2, 4, 16)), HEADS[name](20)])
    model.compile(keras.optimizers.Adam(0.003), "mse", run_eagerly=EAGER)
    before = [np.array(ops.convert_to_numpy(weight)) for weight in model.trainable_weights]
    x = token_map(6, 2, 4, 16)
    model.fit(x, np.ones((6, 20)), epochs=2, verbose=0)
    for weight, value in zip(model.trainable_weights, before, strict=True):
        assert np.abs(ops.convert_to_numpy(weight) - value).max() > 1e-4, weight.path
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", HEADS)
def test_edge_runtime_agrees_with_keras(tiny_classifier, name, tmp_path):
    model, waveforms = tiny_classifier(HEADS[name](12, name=name))
    contract = export_tflite(model, tmp_path / "m.tflite", clips=waveforms)
    assert contract.parity["max_score_difference"] <= 1e-4
    assert contract.parity["delegate_partitions"] == 1
