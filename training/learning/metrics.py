"""Metrics of a training and its validation."""

import math
from typing import Any

import keras
from keras import ops

_BINS = 4096
# log(1 + x) of the largest logit in a bin of its own.
_LARGEST = math.log1p(110.0)


@keras.saving.register_keras_serializable("semanticac_keras")
class Accuracy(keras.metrics.MeanMetricWrapper):
    """Share of rows whose largest logit is a label's; a row that is not finite is never a hit.

    Of a mixture's labels, those with the largest share count.

    The argmax of NaN is 0 on some backends, where Keras' own accuracy would count each clip of the
    first class as a hit.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(_hits, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"name": self.name, "dtype": self.dtype}


def _hits(y_true: Any, y_pred: Any) -> Any:
    """Return 1 for each finite row (B,) whose largest logit is a label's, else 0."""
    best = ops.expand_dims(ops.argmax(y_pred, axis=-1), axis=-1)
    share = ops.squeeze(ops.take_along_axis(y_true, best, axis=-1), axis=-1)
    same = ops.equal(share, ops.max(y_true, axis=-1))
    finite = ops.all(ops.isfinite(y_pred), axis=-1)
    return ops.cast(ops.logical_and(same, finite), "float32")


@keras.saving.register_keras_serializable("semanticac_keras")
class MeanAveragePrecision(keras.metrics.Metric):
    """Mean of the labels' average precisions, see `training.runs.tagging.average_precision`.

    Logits are counted in bins, and those of a bin are one rank. A row that is not finite is last.

    Args:
        num_labels: number of labels, K.
        name: name in the history.
        dtype: of the counts.
    """

    def __init__(
        self, num_labels: int, name: str = "mean_average_precision", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_labels = num_labels
        # Clips with the label, and all clips, in each bin of each label.
        self.hits = self.add_weight((num_labels * _BINS,), "zeros", name="hits")
        self.clips = self.add_weight((num_labels * _BINS,), "zeros", name="clips")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count targets (B, K) in [0, 1] by their logits (B, K)."""
        finite = ops.all(ops.isfinite(y_pred), axis=-1, keepdims=True)
        logits = ops.where(finite, ops.cast(y_pred, "float32"), -float("inf"))
        # Finer around zero: 0.002 there, 0.03 at 10.
        place = ops.sign(logits) * ops.log1p(ops.abs(logits)) / _LARGEST
        bins = ops.clip(ops.floor((place + 1) / 2 * _BINS), 0, _BINS - 1)
        bins = ops.cast(bins, "int32") + _BINS * ops.arange(self.num_labels, dtype="int32")
        weight = ops.ones_like(logits)
        if sample_weight is not None:
            weight = weight * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        for counts, values in (
            (self.hits, weight * ops.cast(y_true, "float32")),
            (self.clips, weight),
        ):
            sums = ops.segment_sum(ops.ravel(values), ops.ravel(bins), self.num_labels * _BINS)
            counts.assign_add(ops.cast(sums, counts.dtype))

    def result(self) -> Any:
        """Return the mean over the labels with clips; 0 if there are none."""
        hits, clips = (
            ops.flip(ops.reshape(counts, (self.num_labels, _BINS)), axis=1)
            for counts in (self.hits, self.clips)
        )
        precision = ops.cumsum(hits, axis=1) / ops.maximum(ops.cumsum(clips, axis=1), 1e-9)
        total = ops.sum(hits, axis=1)
        averages = ops.sum(hits * precision, axis=1) / ops.maximum(total, 1e-9)
        present = ops.cast(total > 0, averages.dtype)
        return ops.sum(averages * present) / ops.maximum(ops.sum(present), 1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"num_labels": self.num_labels, "name": self.name, "dtype": self.dtype}
