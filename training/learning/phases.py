"""Phases of a training: the heads alone, then all weights."""

from typing import NamedTuple

from semanticac_keras import ClassVectors, SemanticAC
from semanticac_keras.semantic_ac import build_optimizer
from training.learning.metrics import Accuracy, MeanAveragePrecision
from training.learning.recipes import Recipe


class Phase(NamedTuple):
    """Consecutive epochs that train the same weights with one optimizer.

    Args:
        first_epoch: first epoch, from 0.
        end: epoch after the last.
        heads_only: leave the encoders as they are.
    """

    first_epoch: int
    end: int
    heads_only: bool

    def begin(
        self, model: SemanticAC, recipe: Recipe, steps_per_epoch: int, exclusive: bool = True
    ) -> None:
        """Select the weights to train, and give the model a new optimizer and metric for them.

        An optimizer for all weights could not do without some of them on JAX. With Adam it would
        also make the first updates of the others up to six times too large, as it takes their zero
        gradients into its averages.
        """
        if recipe.head_epochs:
            _set_encoders_trainable(model, not self.heads_only)
        optimizer = recipe.make_optimizer(steps_per_epoch, self.heads_only)
        metric = Accuracy() if exclusive else MeanAveragePrecision(len(model.labels))
        model.compile(optimizer, metrics=[metric])  # an object needs no second trace of a step
        build_optimizer(model)


def phases_of(recipe: Recipe) -> list[Phase]:
    """Return the phases of a recipe, in their order: one or two."""
    heads = Phase(0, recipe.head_epochs, heads_only=True)
    everything = Phase(heads.end, recipe.epochs, heads_only=False)
    return [phase for phase in (heads, everything) if phase.first_epoch < phase.end]


def make_trainable(
    model: SemanticAC, recipe: Recipe, steps_per_epoch: int, exclusive: bool = True
) -> None:
    """Let a model whose last epoch was one of the heads be saved, and loaded, as any other."""
    if recipe.head_epochs and not model.audio_tower.encoder.trainable:
        Phase(recipe.epochs, recipe.epochs, heads_only=False).begin(
            model, recipe, steps_per_epoch, exclusive
        )


def _set_encoders_trainable(model: SemanticAC, trainable: bool) -> None:
    model.audio_tower.encoder.trainable = trainable
    text_encoder = model.text_encoder
    # Class vectors, and the projection after a frozen text encoder, are heads too.
    if not (isinstance(text_encoder, ClassVectors) or getattr(text_encoder, "frozen", False)):
        text_encoder.trainable = trainable
