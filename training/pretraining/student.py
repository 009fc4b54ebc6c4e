"""The student: an audio tower with heads that answer what the teachers answered."""

from collections.abc import Sequence

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
    """An audio tower, and for each window of each teacher its scores and its embedding.

    Scores are sigmoids of scaled cosines to the texts of the teachers' classes (SigLIP), for the
    whole crop from the tower's embedding and for each window from the columns of the token map that
    it covers. A tagger answers several times in a crop, so the map gets several times the
    supervision that one answer a crop would give. Several teachers have a head each, and their
    losses are averaged.

    Args:
        tower: the audio tower.
        text_vectors: unit vectors of the classes' texts, (K, C).
        teachers: of each teacher, size D of its embedding and times of its windows.

    Call arguments:
        log_mels: float32 (B, frames, mels).

    Returns:
        Logits of the crop (B, K), and for each teacher logits of the windows (B, W, K) and
        embeddings (B, W, D).

    Source: Zhai et al. 2023, "SigLIP".
    """

    def __init__(
        self, tower: AudioTower, text_vectors, teachers: Sequence[tuple[int, Grid]], **kwargs
    ):
        super().__init__(**kwargs)
        self.tower = tower
        vectors = np.asarray(text_vectors, np.float32)
        self.text_vectors = self.add_weight(
            shape=vectors.shape, trainable=False, name="text_vectors"
        )
        self.text_vectors.assign(vectors)
        self.log_scale = self.add_weight(
            shape=(1 + len(teachers),),
            initializer=keras.initializers.Constant(np.log(10.0)),
            name="logit_scale",
        )
        self.score_bias = self.add_weight(
            shape=(1 + len(teachers),), initializer=keras.initializers.Constant(-8.0), name="bias"
        )
        rows, self.num_columns = tower.encoder.output_grid
        self.column_dim = rows * tower.encoder.output_dim
        seconds = tower.front_end.window_seconds
        self.overlaps = [_overlap(self.num_columns, seconds, grid) for _, grid in teachers]
        self.to_text = [self._dense(vectors.shape[1], "to_text") for _ in teachers]
        self.to_embedding = [self._dense(size, "to_embedding") for size, _ in teachers]
        self.built = True

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        dense = keras.layers.Dense(units, dtype="float32", name=name)
        dense.build((None, None, self.column_dim))
        return dense

    def build(self, input_shape):
        self.built = True

    def call(self, log_mels, training=False):
        token_map = self.tower.token_map(log_mels, training)
        crop = self._logits(self.tower.project(token_map, training), 0)
        columns = ops.transpose(ops.cast(token_map, "float32"), (0, 2, 1, 3))
        columns = ops.reshape(columns, (-1, self.num_columns, self.column_dim))
        answers = []
        for number, overlap in enumerate(self.overlaps):
            windows = ops.matmul(ops.convert_to_tensor(overlap), columns)  # (B, W, rows * d)
            scores = self._logits(l2_normalize(self.to_text[number](windows)), 1 + number)
            answers.append((scores, self.to_embedding[number](windows)))
        return crop, answers

    def _logits(self, vectors, which: int):
        cosines = ops.matmul(vectors, ops.transpose(self.text_vectors))
        return cosines * ops.exp(self.log_scale[which]) + self.score_bias[which]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Sum of the crop's and the windows' score losses and the embedding's cosine distance.

        Args:
            x: ignored.
            y: the answers of each teacher, see `batches.Answers`.
            y_pred: the result of a call.
            sample_weight: ignored.
            training: ignored.
        """
        crop, answers = y_pred
        losses = [_loss(crop, *mine, *theirs) for mine, theirs in zip(answers, y, strict=True)]
        return sum(losses) / len(losses)


def _loss(crop, windows, predicted, scores, embeddings, heard, scored):
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
