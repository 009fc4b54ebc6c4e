"""Training recipes; the fields of `Recipe` are options of the command line."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import keras

from semanticac_keras.heads import Head
from semanticac_keras.losses import Targets
from semanticac_keras.prompts import CLAP_PROMPT, DEFAULT_PROMPT
from semanticac_keras.semantic_ac import Texts
from training.learning.augment import Augmentation
from training.learning.optimizers import CoupledSGD, Muon

# Stands for a preset in the recipe of a pretrained CLAP, which has its own sizes.
CLAP = "clap"

# Fields that the first recorded runs do not have.
_NEWER_FIELDS = ("train_text", "head_epochs", "head_learning_rate")

# The text encoder sees too few texts for Muon, which updates the audio tower's kernels.
_ADAM_PATHS = ("text_encoder",)


@dataclass(frozen=True)
class Recipe:
    """Settings of a model and its training.

    Args:
        preset: preset of the model, see `semanticac_keras.presets.PRESETS`; or `CLAP`.
        conv_stem: keep the preset's convolutional stem, if it has one.
        head: layer that maps the token map to a vector, see `semanticac_keras.HEADS`.
        texts: source of the class vectors, see `SemanticAC.from_preset`.
        train_text: train a CLAP's text encoder too, which is frozen otherwise.
        epochs: passes over the training clips.
        head_epochs: how many of them, at the start, leave the encoders as they are and train the
            head, the logit scale and a projection or class vectors in the text encoder's place.
        head_learning_rate: highest learning rate of these epochs, which have a schedule and an
            optimiser of their own.
        batch_size: clips per step.
        optimizer: `"adamw"`, `"muon"` (`training.learning.optimizers.Muon`), or `"sgd"` with
            Nesterov momentum 0.9 (`CoupledSGD`).
        learning_rate: highest learning rate.
        schedule: `"cosine"` to zero, or `"exponential"`: multiply by `decay` after each epoch.
        decay: factor per epoch of the exponential schedule.
        warmup_epochs: epochs of linear rise before the cosine schedule.
        weight_decay: decoupled and for kernels alone with AdamW and Muon; added to the gradient of
            every weight with SGD.
        ema_momentum: momentum of the averaged weights, which replace the last ones; 0 is off.
        prompt: text around a label; must contain `{label}`.
        text_warmup_steps: updates of the text encoder alone before the first epoch, unless it has
            pretrained weights, see `training.learning.text_warmup`.
        targets: targets of the loss, see `semanticac_keras.contrastive_loss`.
        label_smoothing: share of each target spread over all labels.
        spec_augment: mask stripes of the log-mels.
        training_rate_hz: resample the training clips to this rate, but play them at the front
            end's, so that they sound slower and lower; 0 is the front end's rate. 44,100 at a front
            end of 32,000 is our reading of the paper's "44.1 kHz for training, 32 kHz for
            evaluation".
        precision: `"float32"` or `"mixed_bfloat16"`.
        seed: seed of the weights, the batches and the augmentation.
        augmentation: changes to the waveforms.

    Raises:
        ValueError: if a field is out of range.
    """

    preset: str = "tiny"
    conv_stem: bool = True
    head: Head = "cscm"
    texts: Texts = "labels"
    train_text: bool = False
    epochs: int = 20
    head_epochs: int = 0
    head_learning_rate: float = 1e-3
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
        for name in ("learning_rate", "head_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive. Received: {getattr(self, name)}")
        if not 0 <= self.head_epochs <= self.epochs:
            raise ValueError(
                f"`head_epochs` must be from 0 to {self.epochs}, the number of all epochs. "
                f"Received: {self.head_epochs}"
            )

    def override(self, values: dict[str, Any]) -> "Recipe":
        """Return a copy with other values, for fields of the recipe or its augmentation."""
        inner = {f.name for f in fields(Augmentation)} & values.keys()
        augmentation = replace(self.augmentation, **{name: values[name] for name in inner})
        outer = {name: value for name, value in values.items() if name not in inner}
        return replace(self, **outer, augmentation=augmentation)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for a file.

        Newer fields are left out at their defaults, so that older runs can be resumed and compared.
        """
        values = asdict(self)
        for name in _NEWER_FIELDS:
            if values[name] == getattr(Recipe, name):
                del values[name]
        return values

    def make_optimizer(
        self, steps_per_epoch: int, heads_only: bool = False
    ) -> keras.optimizers.Optimizer:
        """Create the optimiser with its schedule.

        Args:
            steps_per_epoch: updates per epoch.
            heads_only: for the `head_epochs`, instead of the epochs after them.
        """
        ema: dict[str, Any] = {}
        if self.ema_momentum > 0:
            ema = {"use_ema": True, "ema_momentum": self.ema_momentum}
        if heads_only:
            rate = self._schedule(steps_per_epoch, self.head_epochs, self.head_learning_rate)
        else:
            epochs = max(1, self.epochs - self.head_epochs)
            rate = self._schedule(steps_per_epoch, epochs, self.learning_rate)
        if self.optimizer == "sgd":
            return CoupledSGD(
                rate, momentum=0.9, nesterov=True, coupled_decay=self.weight_decay, **ema
            )
        options = {"weight_decay": self.weight_decay, "global_clipnorm": 1.0, **ema}
        if self.optimizer == "muon":
            optimizer = Muon(rate, adam_paths=_ADAM_PATHS, **options)
        else:
            optimizer = keras.optimizers.AdamW(rate, **options)
        # Only kernels decay: no biases, gains, relative position tables or logit scale.
        optimizer.exclude_from_weight_decay(
            var_names=["bias", "gamma", "beta", "relative_position_bias_table", "logit_scale"]
        )
        return optimizer

    def _schedule(
        self, steps_per_epoch: int, epochs: int, rate: float
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        if self.schedule == "exponential":
            return keras.optimizers.schedules.ExponentialDecay(
                rate, steps_per_epoch, self.decay, staircase=True
            )
        warmup_epochs = min(self.warmup_epochs, epochs - 1)
        if warmup_epochs < 1:
            return keras.optimizers.schedules.CosineDecay(rate, epochs * steps_per_epoch)
        return keras.optimizers.schedules.CosineDecay(
            0.0,
            (epochs - warmup_epochs) * steps_per_epoch,
            warmup_target=rate,
            warmup_steps=warmup_epochs * steps_per_epoch,
        )


RECIPES: dict[str, Recipe] = {
    # Short trial on easily separated sounds.
    "quick": Recipe(preset="tiny", epochs=12),
    # From random weights.
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
    # From a pretrained audio tower.
    "pretrained": Recipe(
        preset="small",
        epochs=30,
        head_epochs=5,
        head_learning_rate=3e-3,
        optimizer="muon",
        learning_rate=1e-3,
        prompt="{label}",
        text_warmup_steps=50,
        targets="prototype",
        label_smoothing=0.1,
        spec_augment=True,
        augmentation=Augmentation(time_scale=1.2, noise=0.25, gain_db=6.0, mixup=0.3),
    ),
    # A head on a tagger's embeddings.
    "tagger": Recipe(
        preset="small",
        epochs=40,
        batch_size=64,
        targets="prototype",
        label_smoothing=0.1,
        augmentation=Augmentation(mixup=0.3),
    ),
    # From a pretrained CLAP, with a learning rate of HTS-AT's own settings for ESC-50; not tuned.
    "finetune": Recipe(
        preset=CLAP,
        head="clap",
        epochs=20,
        learning_rate=1e-4,
        prompt=CLAP_PROMPT,
        targets="prototype",
        label_smoothing=0.1,
        spec_augment=True,
        augmentation=Augmentation(gain_db=6.0, mixup=0.3),
    ),
    # The paper's settings, with AudioCLIP's augmentation.
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
    """Return the first recipe for a preset."""
    return next(recipe for recipe in RECIPES.values() if recipe.preset == preset)
