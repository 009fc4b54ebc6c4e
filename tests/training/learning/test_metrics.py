import keras
import numpy as np

from training.learning.metrics import Accuracy, MeanAveragePrecision
from training.runs.tagging import average_precision


def test_a_row_that_is_not_finite_is_a_miss():
    nan, inf = np.nan, np.inf
    logits = np.array([[2, 1], [1, 2], [nan, nan], [nan, 1], [inf, 1], [1, -inf]], np.float32)
    shares = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0.7, 0.3]], np.float32)
    metric = Accuracy.from_config(Accuracy().get_config())
    metric.update_state(keras.ops.convert_to_tensor(shares), keras.ops.convert_to_tensor(logits))
    assert metric.name == "accuracy"
    np.testing.assert_allclose(float(metric.result()), 1 / 6, rtol=1e-6)


def test_each_of_a_mixtures_equal_labels_is_a_hit():
    metric = Accuracy()
    targets = np.array([[1, 1, 0], [1, 1, 0], [0.7, 0.3, 0]], np.float32)
    logits = np.array([[0, 2, 1], [0, 1, 2], [1, 2, 0]], np.float32)
    metric.update_state(keras.ops.convert_to_tensor(targets), keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(float(metric.result()), 1 / 3, rtol=1e-6)


def test_mean_average_precision_is_that_of_all_batches():
    rng = np.random.default_rng(0)
    targets = (rng.uniform(size=(60, 4)) < 0.3).astype(np.float32)
    targets[:, 3] = 0.0  # a label without clips
    logits = (rng.normal(-2, 3, (60, 4)) + 2 * targets).astype(np.float32)
    logits[7] = np.nan
    metric = MeanAveragePrecision.from_config(MeanAveragePrecision(4).get_config())
    for part in (slice(0, 20), slice(20, 60)):
        y_true, y_pred = map(keras.ops.convert_to_tensor, (targets[part], logits[part]))
        metric.update_state(y_true, y_pred)
    scores = np.where(np.isnan(logits), -1e9, logits)
    expected = np.mean([average_precision(targets[:, k], scores[:, k]) for k in range(3)])
    np.testing.assert_allclose(float(metric.result()), expected, atol=0.01)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_mean_average_precision_keeps_the_order_of_large_logits_and_weighs_clips():
    targets, logits = np.array([[1], [0], [1]], np.float32), np.array([[90], [80], [70]])
    metric = MeanAveragePrecision(1)
    y_true, y_pred = map(keras.ops.convert_to_tensor, (targets, logits.astype(np.float32)))
    metric.update_state(y_true, y_pred)
    np.testing.assert_allclose(float(metric.result()), (1 + 2 / 3) / 2, rtol=1e-6)
    metric.reset_state()
    metric.update_state(y_true, y_pred, np.array([1.0, 0.0, 1.0], np.float32))
    np.testing.assert_allclose(float(metric.result()), 1.0, rtol=1e-6)
