import keras
import numpy as np
from keras import ops

from semanticac_keras.batch_norm import BatchNorm


def pictures(seed):
    values = np.random.default_rng(seed).normal(3.0, 2.0, (4, 6, 10, 8))
    return ops.convert_to_tensor(values.astype(np.float32))


def make(cls):
    norm = cls(momentum=0.9, epsilon=1e-5)
    norm.build((None, None, None, 8))
    rng = np.random.default_rng(2)
    norm.gamma.assign(rng.normal(1.0, 0.3, 8))
    norm.beta.assign(rng.normal(0.0, 0.3, 8))
    return norm


def test_output_and_statistics_match_keras():
    ours, reference = make(BatchNorm), make(keras.layers.BatchNormalization)
    for seed in range(3):
        x = pictures(seed)
        np.testing.assert_allclose(
            *(ops.convert_to_numpy(norm(x, training=True)) for norm in (ours, reference)), atol=2e-5
        )
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(
            *(ops.convert_to_numpy(getattr(norm, name)) for norm in (ours, reference)), rtol=1e-5
        )
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(norm(x)) for norm in (ours, reference)), atol=2e-5
    )


def test_training_matches_keras():
    """A few steps of gradient descent give the same weights."""
    x, y = pictures(0), pictures(1)

    def trained(cls):
        model = keras.Sequential([make(cls)])
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
        model.fit(x, y, epochs=3, batch_size=2, shuffle=False, verbose=0)
        return model.get_weights()

    for ours, reference in zip(
        trained(BatchNorm), trained(keras.layers.BatchNormalization), strict=True
    ):
        np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_frozen_layer_keeps_its_statistics():
    norm = make(BatchNorm)
    norm.trainable = False
    norm(pictures(0), training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(norm.moving_mean), 0.0)


def test_half_precision_is_preserved():
    norm = BatchNorm(dtype="mixed_bfloat16")
    y = norm(ops.cast(pictures(0), "bfloat16"), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(norm.moving_mean.dtype) == "float32"
