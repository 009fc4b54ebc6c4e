import keras
import numpy as np
import pytest
from keras import ops

from semanticac_keras import CSCM
from semanticac_keras.cscm import ChannelAttention, SpatialAttention


def token_map(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_fewer_parameters_than_flatten_and_dense():
    cscm = CSCM(1024)
    cscm.build((None, 8, 8, 768))
    dense = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1024)])
    dense.build((None, 8, 8, 768))
    # CBAM 74,544 + 99, 3x3 convolution 768·9·384, its normalisation 4·384, 1x1 convolution.
    assert cscm.count_params() == 74_544 + 99 + 2_654_208 + 1_536 + 394_240
    assert dense.count_params() > 16 * cscm.count_params()


def test_map_of_any_size_becomes_one_vector():
    assert CSCM(20, hidden_dim=6)(token_map(3, 4, 8, 16)).shape == (3, 20)
    assert CSCM(20).compute_output_shape((None, 4, 8, 16)) == (None, 20)


def test_channel_attention_weighs_channels():
    x = token_map(2, 3, 5, 8)
    weights = ops.convert_to_numpy(ChannelAttention(reduction=2)(x)) / x
    np.testing.assert_allclose(weights, np.broadcast_to(weights[:, :1, :1], x.shape), rtol=1e-4)
    assert (weights > 0).all()
    assert (weights < 1).all()


def test_spatial_attention_weighs_positions():
    x = token_map(2, 3, 5, 8)
    weights = ops.convert_to_numpy(SpatialAttention()(x)) / x
    np.testing.assert_allclose(weights, np.broadcast_to(weights[..., :1], x.shape), rtol=1e-4)
    assert np.ptp(weights[0, ..., 0]) > 1e-3


@pytest.mark.parametrize("layer", [ChannelAttention(reduction=2), SpatialAttention()])
def test_training_and_inference_outputs_agree(layer):
    x = token_map(2, 3, 5, 8)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x, training=True)), ops.convert_to_numpy(layer(x)), atol=1e-6
    )


def test_config_round_trip():
    config = CSCM(20, hidden_dim=6, reduction=4, dropout=0.1).get_config()
    assert CSCM.from_config(config).get_config() == config
