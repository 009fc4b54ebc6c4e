import keras
import numpy as np

from training.learning.metrics import Accuracy


def test_a_row_that_is_not_finite_is_a_miss():
    nan, inf = np.nan, np.inf
    logits = np.array([[2, 1], [1, 2], [nan, nan], [nan, 1], [inf, 1], [1, -inf]], np.float32)
    shares = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0.7, 0.3]], np.float32)
    metric = Accuracy.from_config(Accuracy().get_config())
    metric.update_state(keras.ops.convert_to_tensor(shares), keras.ops.convert_to_tensor(logits))
    assert metric.name == "accuracy"
    np.testing.assert_allclose(float(metric.result()), 1 / 6, rtol=1e-6)
