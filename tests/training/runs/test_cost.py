import keras
import pytest

from semanticac_keras import HEADS, ExportError
from training.runs.cost import Cost, count_macs, measure

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the graph is converted by TensorFlow"
)


@tensorflow_only
def test_counts_convolutions_and_dense_layers():
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(5, 3, padding="same"),  # 4·6 positions of 5 outputs from 3·3·2
            layers.DepthwiseConv2D(3, padding="same"),  # 4·6 positions of 5 outputs from 3·3
            layers.Conv2D(7, 1, strides=2),  # 2·3 positions of 7 outputs from 5
            layers.GlobalAveragePooling2D(),
            layers.Dense(11),  # 11 outputs from 7
        ]
    )
    parameters = (5 * 18 + 5) + (5 * 9 + 5) + (7 * 5 + 7) + (11 * 7 + 11)
    macs = 4 * 6 * 5 * 18 + 4 * 6 * 5 * 9 + 2 * 3 * 7 * 5 + 11 * 7
    assert measure(model, (4, 6, 2)) == Cost(parameters, macs)


@tensorflow_only
def test_counts_products_of_two_activations():
    class Gram(keras.layers.Layer):
        def call(self, x, training=False):
            return keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))

    assert count_macs(Gram(), (6, 5)) == 6 * 6 * 5


@tensorflow_only
@pytest.mark.slow
def test_costs_of_the_encoder_and_each_head(micro_costs):
    costs = micro_costs
    assert list(costs) == ["audio_encoder", *HEADS]
    # Map 4 x 4 x 16, C = 12.
    length, dim, projection = 16, 16, 16 * 12
    assert costs["pooled"] == Cost(projection + 12, projection)
    assert costs["flatten"] == Cost(length * projection + 12, length * projection)
    # The first step multiplies a zero state, which conversion folds away.
    assert costs["seq_lstm"].macs == (2 * length - 1) * 4 * dim**2 + projection
    block = length * 12 * dim**2 + 2 * length**2 * dim
    assert costs["seq_transformer"].macs == 4 * block + projection


@tensorflow_only
def test_refuses_a_loop():
    class Loop(keras.layers.Layer):
        def call(self, x, training=False):
            return keras.ops.fori_loop(0, 3, lambda _, y: keras.ops.matmul(y, y), x)

    with pytest.raises(ExportError, match="WHILE cannot be counted"):
        count_macs(Loop(), (4, 4))


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow can count")
def test_other_backends_are_refused():
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        count_macs(keras.layers.Dense(3), (4,))
