"""The student: a classifier that also learns what a teacher makes of each clip."""

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from semanticac_keras import SemanticAC
from semanticac_keras.download import cache_dir
from semanticac_keras.losses import l2_normalize
from semanticac_keras.semantic_ac import BakeLabels, build_optimizer
from training.learning.batches import TrainingBatches
from training.learning.recipes import Recipe
from training.learning.tagger import Teacher
from training.lessons import Lessons, TaughtBatches


class Student(keras.Model):
    """Trains a `SemanticAC`, which knows nothing of teachers, together with two more heads.

    The heads tell the teacher's embedding and scores from the mean of the encoder's token map. They
    teach the encoder and are then left behind: outside training the student answers as the
    classifier alone, and only that is saved or exported.

    Args:
        classifier: what is trained.
        embedding_dim: D of the teacher.
        mean_scores: (K',) the teacher's over the training clips, where its head starts.
        exclusive: whether the teacher's scores sum to 1, or each stands for itself.
        embedding_weight: of 1 - the cosine between the teacher's embedding and the told one.
        score_weight: of the Kullback-Leibler divergence of the told scores, in nats a clip.

    Call arguments:
        inputs: as the classifier's.

    Returns:
        float32 logits (B, K), or while training a dict of `logits`, `embedding` (B, D) and
        `score_logits` (B, K'), the latter two where their weight is not 0.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
    """

    def __init__(
        self,
        classifier: SemanticAC,
        embedding_dim: int,
        mean_scores: npt.NDArray[np.float32],
        exclusive: bool,
        embedding_weight: float,
        score_weight: float,
    ) -> None:
        super().__init__(autocast=False, name="student")
        self.classifier = classifier
        self.exclusive = exclusive
        self.embedding_weight = embedding_weight
        self.score_weight = score_weight
        features = (None, classifier.audio_tower.encoder.output_dim)
        self.embedding_head = self.score_head = None
        if embedding_weight:
            self.embedding_head = keras.layers.Dense(
                embedding_dim, dtype="float32", name="embedding_head"
            )
            self.embedding_head.build(features)
            self.embedding_loss = keras.metrics.Mean(name="teacher_embedding_loss")
        if score_weight:
            mean = np.clip(mean_scores, 1e-6, 1.0 - 1e-6)
            bias = np.log(mean) if exclusive else np.log(mean) - np.log1p(-mean)
            self.score_head = keras.layers.Dense(len(bias), dtype="float32", name="score_head")
            self.score_head.build(features)
            self.score_head.bias.assign(bias)
            self.score_loss = keras.metrics.Mean(name="teacher_score_loss")
        self.built = True

    def bake_labels(self) -> None:
        """As the classifier's; see there."""
        self.classifier.bake_labels()

    def call(self, inputs, training=False):
        if not training:
            return self.classifier(inputs)
        tower = self.classifier.audio_tower
        token_map = tower.token_map(inputs, training=True)
        outputs = {"logits": self.classifier.compare(tower.project(token_map, training=True), True)}
        features = ops.mean(ops.cast(token_map, "float32"), axis=(1, 2))  # (B, d)
        if self.embedding_head is not None:
            outputs["embedding"] = self.embedding_head(features)
        if self.score_head is not None:
            outputs["score_logits"] = self.score_head(features)
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The classifier's loss, and while training the teacher's; y is then a dict of label
        `shares` and the teacher's `embedding` and `scores`, else as the classifier's."""
        if not isinstance(y_pred, dict):
            return self.classifier.compute_loss(x, _shares(y), y_pred, sample_weight, training)
        loss = self.classifier.compute_loss(
            x, y["shares"], y_pred["logits"], sample_weight, training
        )
        if self.embedding_head is not None:
            cosine = l2_normalize(y_pred["embedding"]) * l2_normalize(y["embedding"])
            distance = 1.0 - ops.mean(ops.sum(cosine, axis=-1))
            self.embedding_loss.update_state(distance)
            loss = loss + self.embedding_weight * distance
        if self.score_head is not None:
            divergence = ops.mean(
                score_divergence(y["scores"], y_pred["score_logits"], self.exclusive)
            )
            self.score_loss.update_state(divergence)
            loss = loss + self.score_weight * divergence
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The classifier's; the teacher's losses are told of training only."""
        if isinstance(y_pred, dict):
            return super().compute_metrics(x, _shares(y), y_pred["logits"], sample_weight)
        metrics = super().compute_metrics(x, _shares(y), y_pred, sample_weight)
        return {name: value for name, value in metrics.items() if not name.startswith("teacher_")}

    def fit(self, *args, callbacks: Sequence[keras.callbacks.Callback] = (), **kwargs):
        """Keras' `fit`, which also renews the label embeddings."""
        build_optimizer(self)
        return super().fit(*args, callbacks=[BakeLabels(), *callbacks], **kwargs)


def enrol(
    model: SemanticAC, batches: TrainingBatches, teacher: Teacher, recipe: Recipe
) -> tuple[Student, TaughtBatches]:
    """A student of a teacher, and the batches it learns from; the teacher is then done.

    Args:
        model: what is trained.
        batches: of the clips it is trained on.
        teacher: hears these clips, unless what it says of them is in the cache.
        recipe: what the teacher's answers weigh, and the rate of the clips.

    Raises:
        TeacherError: see `Lessons`.
    """
    rate_hz = recipe.training_rate_hz or model.front_end.sample_rate_hz
    directory = cache_dir() / "lessons"
    lessons = Lessons(teacher, batches, rate_hz, recipe.teacher_views, directory, progress=True)
    student = Student(
        model,
        lessons.embedding_dim,
        lessons.mean_scores,
        lessons.exclusive,
        recipe.teacher_embedding_weight,
        recipe.teacher_score_weight,
    )
    return student, TaughtBatches(batches, lessons)


def score_divergence(scores, logits, exclusive: bool):
    """Kullback-Leibler divergence of a told distribution from the teacher's.

    Args:
        scores: the teacher's probabilities, (B, K').
        logits: (B, K').
        exclusive: whether a row is one distribution over K' events, or K' of yes and no.

    Returns:
        float32 (B,), nats, at least 0.
    """
    scores = ops.clip(scores, 0.0, 1.0)
    if exclusive:
        return ops.sum(scores * (_log(scores) - ops.log_softmax(logits, axis=-1)), axis=-1)
    yes = scores * (_log(scores) - ops.log_sigmoid(logits))
    no = (1.0 - scores) * (_log(1.0 - scores) - ops.log_sigmoid(-logits))
    return ops.sum(yes + no, axis=-1)


def _log(probability):
    """Finite at 0, where it is multiplied by 0."""
    return ops.log(ops.maximum(probability, 1e-12))


def _shares(y):
    """The label shares among the targets of a training batch, or the labels as they are."""
    return y["shares"] if isinstance(y, dict) else y
