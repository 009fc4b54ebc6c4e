"""How to train: one frozen dataclass, whose fields are the command line's options."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import keras

from semanticac_keras.heads import Head
from semanticac_keras.losses import Targets
from semanticac_keras.prompts import DEFAULT_PROMPT
from semanticac_keras.semantic_ac import Texts
from training.learning.augment import Augmentation
from training.learning.optimizers import CoupledSGD, Muon

# The text tower sees few texts; Muon is for the audio tower's matrices.
_ADAM_PATHS = ("text_encoder",)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is learned, apart from the data.

    Args:
        preset: size of the model.
        conv_stem: keep the preset's convolutional stem, if it has one.
        head: token map to a vector, see `semanticac_keras.HEADS`.
        texts: what stands for the classes, see `SemanticAC.from_preset`.
        epochs: passes over the training clips.
        batch_size: clips a step.
        optimizer: `"adamw"`, `"muon"` (`training.learning.optimizers.Muon`), or `"sgd"` with
            Nesterov momentum 0.9 (`CoupledSGD`).
        learning_rate: highest rate.
        schedule: `"cosine"` to zero, or `"exponential"`: times `decay` after each epoch.
        decay: factor an epoch of the exponential schedule.
        warmup_epochs: linear rise at the start of the cosine schedule.
        weight_decay: of matrices and beside the update for AdamW and Muon; of every weight and in
            the gradient for SGD.
        ema_momentum: of the averaged weights that are kept at the end; 0 is off.
        prompt: text around a label, with `{label}`.
        text_warmup_steps: updates of the text encoder alone before the first epoch, unless it has
            pretrained weights, see `training.learning.text_warmup`.
        targets: form of the loss, see `semanticac_keras.contrastive_loss`.
        label_smoothing: share of each target spread over all labels.
        spec_augment: hide stripes of the log-mels.
        training_rate_hz: rate to which the training clips are resampled, if not the front end's.
            The model takes their samples for its own, so that they sound slower and lower: 44,100
            at a front end of 32,000 is our reading of the paper's "44.1 kHz for training, 32 kHz
            for evaluation".
        precision: `"float32"` or `"mixed_bfloat16"`.
        seed: of the weights, the batches and the augmentation.
        augmentation: of the waveforms.
    """

    preset: str = "tiny"
    conv_stem: bool = True
    head: Head = "cscm"
    texts: Texts = "labels"
    epochs: int = 20
    batch_size: int = 32
    optimizer: Literal["adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "exponential"] = "cosine"
    decay: float = 0.96
    warmup_epochs: int = 2
    weight_decay: float = 0.05
    ema_momentum: float = 0.0
    prompt: str = DEFAULT_PROMPT
    text_warmup_steps: int = 0
    targets: Targets = "diagonal"
    label_smoothing: float = 0.0
    spec_augment: bool = False
    training_rate_hz: int = 0
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` must be positive. Received: {self.learning_rate}")

    def override(self, values: dict[str, Any]) -> "Recipe":
        """A copy with other values; names of `Augmentation`'s fields reach into it."""
        inner = {f.name for f in fields(Augmentation)} & values.keys()
        augmentation = replace(self.augmentation, **{name: values[name] for name in inner})
        outer = {name: value for name, value in values.items() if name not in inner}
        return replace(self, **outer, augmentation=augmentation)

    def make_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """The optimiser with its schedule.

        Args:
            steps_per_epoch: updates in an epoch.
        """
        ema: dict[str, Any] = {}
        if self.ema_momentum > 0:
            ema = {"use_ema": True, "ema_momentum": self.ema_momentum}
        rate = self._schedule(steps_per_epoch)
        if self.optimizer == "sgd":
            return CoupledSGD(
                rate, momentum=0.9, nesterov=True, coupled_decay=self.weight_decay, **ema
            )
        options = {"weight_decay": self.weight_decay, "global_clipnorm": 1.0, **ema}
        if self.optimizer == "muon":
            optimizer = Muon(rate, adam_paths=_ADAM_PATHS, **options)
        else:
            optimizer = keras.optimizers.AdamW(rate, **options)
        # Decay is for matrices: not for biases, gains, the relative position tables or the scale.
        optimizer.exclude_from_weight_decay(
            var_names=["bias", "gamma", "beta", "relative_position_bias_table", "logit_scale"]
        )
        return optimizer

    def _schedule(self, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
        if self.schedule == "exponential":
            return keras.optimizers.schedules.ExponentialDecay(
                self.learning_rate, steps_per_epoch, self.decay, staircase=True
            )
        warmup_epochs = min(self.warmup_epochs, self.epochs - 1)
        if warmup_epochs < 1:
            return keras.optimizers.schedules.CosineDecay(
                self.learning_rate, self.epochs * steps_per_epoch
            )
        return keras.optimizers.schedules.CosineDecay(
            0.0,
            (self.epochs - warmup_epochs) * steps_per_epoch,
            warmup_target=self.learning_rate,
            warmup_steps=warmup_epochs * steps_per_epoch,
        )


RECIPES: dict[str, Recipe] = {
    # A first try, on clear sounds.
    "quick": Recipe(preset="tiny"),
    # Without pretrained weights.
    "scratch": Recipe(
        preset="small",
        epochs=100,
        optimizer="muon",
        learning_rate=3e-3,
        warmup_epochs=5,
        text_warmup_steps=50,
        targets="prototype",
        label_smoothing=0.1,
        spec_augment=True,
        augmentation=Augmentation(time_scale=1.2, noise=0.25, gain_db=6.0, mixup=0.3),
    ),
    # The paper's, with AudioCLIP's augmentation.
    "paper": Recipe(
        preset="base",
        epochs=50,
        batch_size=16,
        optimizer="sgd",
        learning_rate=8e-5,
        schedule="exponential",
        weight_decay=5e-4,
        spec_augment=True,
        augmentation=Augmentation(time_flip=0.5, time_scale=1.5, noise=0.25),
    ),
}


def recipe_for(preset: str) -> Recipe:
    """The recipe made for a preset."""
    return next(recipe for recipe in RECIPES.values() if recipe.preset == preset)
