"""The student: an audio tower with heads that answer what the teacher answered."""

import keras
import numpy as np
from keras import ops

from edge.types import FloatArray
from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.losses import l2_normalize
from training.pretraining.teacher import Grid

_EMBEDDING_WEIGHT = 10.0


@keras.saving.register_keras_serializable("semanticac_keras")
class Student(keras.Model):
    """An audio tower, and for each window of the teacher its scores and its embedding.

    Scores are sigmoids of scaled cosines to the texts of the teacher's classes (SigLIP), for the
    whole crop from the tower's embedding and for each window from the columns of the token map that
    it covers. The teacher answers several times in a crop, so the map gets several times the
    supervision that one answer a crop would give.

    Args:
        tower: the audio tower.
        text_vectors: unit vectors of the classes' texts, (K, C).
        embedding_dim: size D of the teacher's embedding.
        grid: times of the teacher's windows.

    Call arguments:
        log_mels: float32 (B, frames, mels).

    Returns:
        Logits of the crop (B, K), logits of the windows (B, W, K), embeddings (B, W, D).

    Source: Zhai et al. 2023, "SigLIP".
    """

    def __init__(self, tower: AudioTower, text_vectors, embedding_dim: int, grid: Grid, **kwargs):
        super().__init__(**kwargs)
        self.tower = tower
        vectors = np.asarray(text_vectors, np.float32)
        self.text_vectors = self.add_weight(
            shape=vectors.shape, trainable=False, name="text_vectors"
        )
        self.text_vectors.assign(vectors)
        self.log_scale = self.add_weight(
            shape=(2,), initializer=keras.initializers.Constant(np.log(10.0)), name="logit_scale"
        )
        self.score_bias = self.add_weight(
            shape=(2,), initializer=keras.initializers.Constant(-8.0), name="bias"
        )
        rows, self.num_columns = tower.encoder.output_grid
        self.column_dim = rows * tower.encoder.output_dim
        self.overlap = _overlap(self.num_columns, tower.front_end.window_seconds, grid)
        self.to_text = keras.layers.Dense(vectors.shape[1], dtype="float32", name="to_text")
        self.to_embedding = keras.layers.Dense(embedding_dim, dtype="float32", name="to_embedding")
        self.to_text.build((None, None, self.column_dim))
        self.to_embedding.build((None, None, self.column_dim))
        self.built = True

    def build(self, input_shape):
        self.built = True

    def call(self, log_mels, training=False):
        token_map = self.tower.token_map(log_mels, training)
        crop = self._logits(self.tower.project(token_map, training), 0)
        columns = ops.transpose(ops.cast(token_map, "float32"), (0, 2, 1, 3))
        columns = ops.reshape(columns, (-1, self.num_columns, self.column_dim))
        windows = ops.matmul(ops.convert_to_tensor(self.overlap), columns)  # (B, W, rows * d)
        scores = self._logits(l2_normalize(self.to_text(windows)), 1)
        return crop, scores, self.to_embedding(windows)

    def _logits(self, vectors, which: int):
        cosines = ops.matmul(vectors, ops.transpose(self.text_vectors))
        return cosines * ops.exp(self.log_scale[which]) + self.score_bias[which]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Sum of the crop's and the windows' score losses and the embedding's cosine distance.

        Args:
            x: ignored.
            y: scores (B, W, K), embeddings (B, W, D), heard (B, W) and scored (B, W), see
                `batches.Batch`.
            y_pred: the result of a call.
            sample_weight: ignored.
            training: ignored.
        """
        scores, embeddings, heard, scored = y
        crop, windows, predicted = y_pred
        highest = ops.max(scores * scored[:, :, None], axis=1)
        crop_loss = ops.mean(ops.sum(_cross_entropy(crop, highest), axis=-1))
        each = ops.sum(_cross_entropy(windows, scores), axis=-1)
        window_loss = _mean_where(each, scored)
        cosine = ops.sum(l2_normalize(predicted) * l2_normalize(embeddings), axis=-1)
        embedding_loss = _mean_where(1.0 - cosine, heard)
        return crop_loss + window_loss + _EMBEDDING_WEIGHT * embedding_loss


def _cross_entropy(logits, shares):
    """Binary cross entropy less that of a perfect answer, so that 0 is the least."""
    loss = ops.softplus(logits) - shares * logits
    sure = ops.clip(shares, 1e-6, 1.0 - 1e-6)
    least = -shares * ops.log(sure) - (1.0 - shares) * ops.log(1.0 - sure)
    return loss - least


def _mean_where(values, mask):
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)


def _overlap(num_columns: int, seconds: float, grid: Grid) -> FloatArray:
    """Return the share of each column in each window of the teacher, (W, columns)."""
    edges = np.linspace(0.0, seconds, num_columns + 1)
    starts = grid.hop_seconds * np.arange(grid.windows_in(seconds))[:, None]
    ends = np.minimum(edges[1:], starts + grid.window_seconds)
    shares = np.maximum(0.0, ends - np.maximum(edges[:-1], starts))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
