"""Forms of input that `SemanticAC` accepts: files, waveforms of any lengths, log-mels, datasets."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from keras import ops

from edge.types import FloatArray, IntArray
from semanticac_keras.audio_tower import Tower, check_float, check_samples
from semanticac_keras.sound_files import load_audio

_FILES_AT_ONCE = 64
# Of the shares of a mixed clip, from their rounding, in bfloat16 too.
_SUM_TOLERANCE = 0.02


class Examples(NamedTuple):
    """Input, target and sample weight of `fit` or `evaluate`; None or a dataset as there."""

    x: Any
    y: Any
    sample_weight: Any


def is_waveforms(x: Any) -> bool:
    """Whether `x` is a batch or list of waveforms, rather than log-mels or a dataset.

    Raises:
        ValueError: if `x` is a single waveform.
    """
    if isinstance(x, list | tuple):
        return True
    if not is_array(x):
        return False
    if len(x.shape) == 1:
        raise ValueError(
            "expected a batch or list of waveforms. Received: one array of shape "
            f"{tuple(x.shape)}; a single waveform goes in a list: [waveform]"
        )
    return len(x.shape) == 2


def loaded(x: Any, sample_rate_hz: int) -> Any:
    """Load the files in a list of paths and waveforms.

    Args:
        x: a list in which each path is replaced by its waveform; other forms stay as they are.
        sample_rate_hz: sample rate of the waveforms.

    Raises:
        ValueError: if a file cannot be read, or `x` is a single path.
    """
    if isinstance(x, str | os.PathLike):
        raise ValueError(f"expected a list of files. Received: one path, {os.fspath(x)!r}")
    if not isinstance(x, list | tuple):
        return x
    return [
        load_audio(item, sample_rate_hz) if isinstance(item, str | os.PathLike) else item
        for item in x
    ]


def file_groups(x: Any) -> list[Any] | None:
    """Split a long list of files, so that their waveforms need not be in memory all at once.

    Returns:
        Parts of the list `x`; None if it is short or has no paths.
    """
    if not isinstance(x, list | tuple) or len(x) <= _FILES_AT_ONCE:
        return None
    if not any(isinstance(item, str | os.PathLike) for item in x):
        return None
    return [x[start : start + _FILES_AT_ONCE] for start in range(0, len(x), _FILES_AT_ONCE)]


def is_array(x: Any) -> bool:
    """Whether `x` is an array or tensor, rather than a dataset."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def as_windows(
    x: Any, y: Any, sample_weight: Any, tower: Tower, num_labels: int, exclusive: bool = True
) -> Examples:
    """Cut labelled waveforms into windows, and check the labels.

    Args:
        x: waveforms as for `window_batch`, or log-mels, a dataset or None, which stay as they are.
        y: labels as for `check_labels`; None with a dataset.
        sample_weight: weight of each waveform, (B,), or None.
        tower: cuts the waveforms into its windows.
        num_labels: number of labels, K.
        exclusive: whether a clip has exactly one label.

    Returns:
        The windows, each with the label and the weight of its waveform.

    Raises:
        ValueError: if a waveform or a label is not allowed, or their numbers differ.
    """
    if y is not None:
        y = check_labels(y, num_labels, exclusive)
    if is_array(x):
        check_float(x)
    if not is_waveforms(x):
        return Examples(x, y, sample_weight)
    if y is None or len(y) != len(x):
        number = "none" if y is None else f"{len(y):,}"
        raise ValueError(
            f"`y` must have a label for each of {len(x):,} waveforms. Received: {number}"
        )
    if is_array(x) and x.shape[1] == tower.front_end.window_samples:
        check_samples(ops.convert_to_numpy(x), "waveforms")
        return Examples(x, y, sample_weight)
    windows, owners = tower.windows_of(x)
    weights = None if sample_weight is None else np.asarray(sample_weight)[owners]
    return Examples(windows, y[owners], weights)


def check_labels(
    y: npt.ArrayLike | Sequence[int], num_labels: int, exclusive: bool = True
) -> IntArray | FloatArray:
    """Return labels as an array, if they are allowed.

    Args:
        y: int labels (B,) in 0 .. K - 1, or float shares (B, K): rows sum to 1 if `exclusive`, else
            each target is in [0, 1].
        num_labels: number of labels, K.
        exclusive: whether a clip has exactly one label.

    Raises:
        ValueError: if they are not.
    """
    labels = ops.convert_to_numpy(y)
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        wrong = labels[(labels < 0) | (labels >= num_labels)]
        if wrong.size:
            raise ValueError(
                f"labels must be from 0 to {num_labels - 1}. Received: {np.unique(wrong).tolist()}"
            )
    elif labels.ndim != 2 or labels.shape[1] != num_labels:
        raise ValueError(
            f"`y` must be int labels (B,) or label shares (B, {num_labels}). "
            f"Received: {labels.dtype} of shape {labels.shape}"
        )
    elif not np.isfinite(labels).all():
        raise ValueError("label shares must be finite")
    elif exclusive and np.abs(labels.sum(axis=1) - 1).max(initial=0) > _SUM_TOLERANCE:
        raise ValueError(
            "label shares of a clip must sum to 1. For clips with several labels or none, use "
            f'targets="sigmoid". Received: sums from {labels.sum(axis=1).min():g} to '
            f"{labels.sum(axis=1).max():g}"
        )
    elif labels.min(initial=0) < 0 or labels.max(initial=0) > 1:
        raise ValueError(
            f"label shares must be in [0, 1]. Received: from {labels.min():g} to {labels.max():g}"
        )
    return labels


def check_loss_argument(loss: Any) -> None:
    """Reject the `loss` of `compile`, which would have no effect.

    Raises:
        ValueError: if there is one.
    """
    if loss is not None:
        raise ValueError(
            "the model has its own loss, see `targets`; compile it without `loss`. "
            f"Received: {loss!r}"
        )
