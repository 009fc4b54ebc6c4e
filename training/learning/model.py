"""The model before training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from semanticac_keras import (
    CLIPTokenizer,
    SemanticAC,
    load_audio_checkpoint,
    load_text_checkpoint,
    presets,
)
from training.learning.recipes import Recipe
from training.learning.text_warmup import decorrelate_labels


@dataclass(frozen=True)
class Weights:
    """Where the towers' weights come from; random where not given.

    Args:
        audio: path or registered name, see `semanticac_keras.load_audio_checkpoint`.
        text: likewise for the text encoder.
        vocabulary: CLIP's vocabulary file, for presets that use it.
    """

    audio: str | None = None
    text: str | None = None
    vocabulary: Path | None = None


def build_model(labels: Sequence[str], recipe: Recipe, weights: Weights) -> SemanticAC:
    """The model before training; sets Keras' global seed and precision to the recipe's.

    Args:
        labels: class names.
        recipe: how it will be trained.
        weights: where its weights come from.
    """
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    if recipe.texts == "none" and (weights.text or weights.vocabulary):
        raise ValueError('texts="none" reads no text; it takes no --text-weights or --bpe-vocab')
    tokenizer = presets.tokenizer(recipe.preset)
    if weights.vocabulary is not None:
        if not isinstance(tokenizer, CLIPTokenizer):
            raise ValueError(f"preset {recipe.preset!r} reads bytes; it takes no --bpe-vocab")
        tokenizer = CLIPTokenizer(weights.vocabulary, tokenizer.context_length)
    model = SemanticAC.from_preset(
        recipe.preset,
        labels,
        prompt=recipe.prompt,
        targets=recipe.targets,
        label_smoothing=recipe.label_smoothing,
        spec_augment=recipe.spec_augment,
        conv_stem=recipe.conv_stem,
        head=recipe.head,
        texts=recipe.texts,
        tokenizer=tokenizer,
    )
    if weights.audio:
        load_audio_checkpoint(model.audio_tower.encoder, weights.audio)
    if weights.text:
        load_text_checkpoint(model.text_encoder, weights.text)
        model.bake_labels()
    elif recipe.text_warmup_steps:
        decorrelate_labels(model, recipe.text_warmup_steps, recipe.batch_size)
    return model
