"""Construction of the model to train."""

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
    prompts,
)
from training.learning.own_weights import load_own_weights
from training.learning.recipes import Recipe
from training.learning.text_warmup import decorrelate_labels


@dataclass(frozen=True)
class Weights:
    """Sources of the towers' pretrained weights; a tower without one starts at random.

    Args:
        audio: path or registered name, see `semanticac_keras.load_audio_checkpoint`.
        text: path or registered name, see `semanticac_keras.load_text_checkpoint`.
        vocabulary: CLIP's vocabulary file, for presets with CLIP's tokenizer.
        model: trained model for both towers, see `training.learning.own_weights`.
    """

    audio: str | None = None
    text: str | None = None
    vocabulary: Path | None = None
    model: Path | None = None


def build_model(labels: Sequence[str], recipe: Recipe, weights: Weights) -> SemanticAC:
    """Build the model to train, and set Keras' global seed and precision to the recipe's.

    Args:
        labels: class names.
        recipe: settings of the model and its training.
        weights: sources of pretrained weights.

    Raises:
        ValueError: if the weights do not suit the recipe or the preset.
        CheckpointError: if weights cannot be loaded.
    """
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    if weights.model and (weights.audio or weights.text):
        raise ValueError("--weights has both towers; leave out --audio-weights, --text-weights")
    if recipe.texts == "none" and (weights.text or weights.vocabulary):
        raise ValueError('texts="none" has no text encoder; leave out --text-weights, --bpe-vocab')
    if recipe.texts != "none":
        prompts.fill(recipe.prompt, labels)  # refuses a wrong prompt before anything is built
    tokenizer = presets.tokenizer(recipe.preset)
    if weights.vocabulary is not None:
        if not isinstance(tokenizer, CLIPTokenizer):
            raise ValueError(f"preset {recipe.preset!r} reads bytes; leave out --bpe-vocab")
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
    if weights.model:
        load_own_weights(model, weights.model)
        return model
    if weights.audio:
        load_audio_checkpoint(model.audio_tower.encoder, weights.audio)
    if weights.text:
        load_text_checkpoint(model.text_encoder, weights.text)
        model.bake_labels()
    elif recipe.text_warmup_steps:
        decorrelate_labels(model, recipe.text_warmup_steps, recipe.batch_size)
    return model
