"""Metrics of a training."""

from typing import Any

import keras
from keras import ops


def accuracy() -> keras.metrics.Metric:
    """Create the metric `accuracy`: the share of rows whose largest logit is the label's.

    Unlike in Keras' own, a row with a NaN or an infinity is never a hit: the argmax of NaN is 0 on
    some backends, so that a model of NaN would be right on the first class.
    """
    return keras.metrics.MeanMetricWrapper(_hits, name="accuracy")


def _hits(y_true: Any, y_pred: Any) -> Any:
    """Return 1 for each finite row (B,) whose largest logit is the label's, else 0."""
    same = ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1))
    finite = ops.all(ops.isfinite(y_pred), axis=-1)
    return ops.cast(ops.logical_and(same, finite), "float32")
