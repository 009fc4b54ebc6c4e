"""Linear probes: logistic regression on the features of a frozen audio tower."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import keras
import numpy as np
from keras import ops

from edge.types import FloatArray, IntArray
from semanticac_keras.audio_tower import Tower, mean_by_owner
from semanticac_keras.progress import progress_bar
from training.datasets import AudioDataset

_CLIPS_AT_ONCE = 64
_STRENGTH = 1.0


def check_available() -> None:
    """Make sure of scikit-learn.

    Raises:
        ValueError: if it is not installed.
    """
    if find_spec("sklearn") is None:
        raise ValueError("scikit-learn is missing: pip install 'semanticac-keras[probe]'")


@dataclass(frozen=True, eq=False)
class Features:
    """Features and labels of clips.

    Args:
        values: float32 (clips, n).
        truth: label of each clip, (clips,).
    """

    values: FloatArray
    truth: IntArray

    @classmethod
    def of(
        cls,
        tower: Tower,
        dataset: AudioDataset,
        clips: Sequence[FloatArray],
        progress: bool = False,
    ) -> "Features":
        """Compute the features of all clips of a dataset, in which each has one label.

        Args:
            tower: frozen audio tower.
            dataset: dataset with labels.
            clips: its waveforms at the tower's sample rate.
            progress: whether to show a progress bar on stderr.
        """
        return cls(features_of(tower, clips, progress), dataset.truth(range(len(clips))))

    def accuracy(self, train: IntArray, test: IntArray) -> float:
        """Train a logistic regression on some clips, and test it on others."""
        # Of an extra, see `check_available`.
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        probe = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=2_000))
        probe.fit(self.values[train], self.truth[train])
        return float((probe.predict(self.values[test]) == self.truth[test]).mean())


class _OverTime(keras.Model):
    """Mean and maximum over time of a tower's token map: float32 (B, 2 bands * d)."""

    def __init__(self, tower: Tower) -> None:
        super().__init__(name="over_time")
        self.tower = tower

    def call(self, inputs, training=False):
        tokens = ops.cast(self.tower.token_map(inputs), "float32")
        _, rows, columns, dim = tokens.shape
        # Rows are bands of each chunk of time; a tagger's map has only rows, its windows.
        chunks = getattr(self.tower.encoder, "num_chunks", rows)
        tokens = ops.reshape(tokens, (-1, chunks, rows // chunks, columns, dim))
        pooled = ops.concatenate([ops.mean(tokens, (1, 3)), ops.max(tokens, (1, 3))], axis=-1)
        return ops.reshape(pooled, (-1, 2 * (rows // chunks) * dim))


def features_of(tower: Tower, clips: Sequence[FloatArray], progress: bool = False) -> FloatArray:
    """Compute the features of clips; the windows of a clip are averaged.

    Args:
        tower: frozen audio tower.
        clips: waveforms at its sample rate.
        progress: whether to show a progress bar on stderr.

    Returns:
        float32 (clips, 2 bands * d).
    """
    model = _OverTime(tower)
    parts = []
    with progress_bar("Encoding", len(clips), enabled=progress) as advance:
        # In parts, as the windows of all clips may not fit in memory.
        for start in range(0, len(clips), _CLIPS_AT_ONCE):
            part = clips[start : start + _CLIPS_AT_ONCE]
            windows, owners = tower.windows_of(part)
            values = model.predict(tower.inputs_of(windows), verbose=0)
            parts.append(mean_by_owner(values, owners, len(part)))
            advance(len(part))
    return np.concatenate(parts)
