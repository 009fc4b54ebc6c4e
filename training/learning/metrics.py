"""Metrics of a training."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("semanticac_keras")
class Accuracy(keras.metrics.MeanMetricWrapper):
    """Share of rows whose largest logit is the label's; a row that is not finite is never a hit.

    The argmax of NaN is 0 on some backends, where Keras' own accuracy would count each clip of the
    first class as a hit.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(_hits, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"name": self.name, "dtype": self.dtype}


def _hits(y_true: Any, y_pred: Any) -> Any:
    """Return 1 for each finite row (B,) whose largest logit is the label's, else 0."""
    same = ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1))
    finite = ops.all(ops.isfinite(y_pred), axis=-1)
    return ops.cast(ops.logical_and(same, finite), "float32")
