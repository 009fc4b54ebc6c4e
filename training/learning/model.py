"""Construction of the model to train."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from semanticac_keras import (
    HEADS,
    BertEncoder,
    CenteredText,
    CheckpointError,
    CLIPTokenizer,
    Pretrained,
    SemanticAC,
    TaggerTower,
    load_audio_checkpoint,
    load_pretrained,
    load_sentence_encoder,
    load_text_checkpoint,
    presets,
    prompts,
)
from semanticac_keras.audio_tower import AudioTower, Tower
from semanticac_keras.checkpoints.registry import is_tagger, resolve
from semanticac_keras.checkpoints.sentence import is_sentence_encoder
from semanticac_keras.heads import head_from_preset
from semanticac_keras.pretrained import is_pretrained
from semanticac_keras.prompts import LabelTexts
from semanticac_keras.semantic_ac import Tokenizer
from semanticac_keras.tagger import Tagger
from training.learning.augment import Augmentation
from training.learning.own_weights import copy_weights, load_own_model
from training.learning.recipes import CLAP, Recipe
from training.learning.text_warmup import decorrelate_labels
from training.learning.trained_model import model_from

# Share of a tagger's values that are dropped while training, and channels inside CSCM on them.
_TAGGER_DROPOUT = 0.3
TAGGER_HIDDEN_DIM = 128


@dataclass(frozen=True)
class Weights:
    """Sources of the towers' pretrained weights; a tower without one starts at random.

    Args:
        audio: path or registered name, see `semanticac_keras.load_audio_checkpoint`, or a
            tagger's, see `semanticac_keras.TaggerTower`; the latter replaces the preset's audio
            encoder, and is frozen.
        text: path or registered name, see `semanticac_keras.load_text_checkpoint`, or a sentence
            encoder's, see `semanticac_keras.load_sentence_encoder`; the latter replaces the
            preset's text encoder, and is frozen but for its projection.
        vocabulary: CLIP's vocabulary file, for presets with CLIP's tokenizer.
        model: trained model for both towers, see `training.learning.trained_model`; or a pretrained
            audio tower, see `semanticac_keras.load_pretrained`, with which `text` names a copy of
            the sentence encoder in whose space it is.
        tagger_rate_hz: sample rate of the tagger's input.
    """

    audio: str | None = None
    text: str | None = None
    vocabulary: Path | None = None
    model: str | None = None
    tagger_rate_hz: int = 16_000


def build_model(
    labels: Sequence[str],
    recipe: Recipe,
    weights: Weights,
    label_texts: LabelTexts | None = None,
) -> SemanticAC:
    """Build the model to train, and set Keras' global seed and precision to the recipe's.

    Args:
        labels: class names.
        recipe: settings of the model and its training.
        weights: sources of pretrained weights.
        label_texts: texts that replace a label's name in its prompt, see `SemanticAC`.

    Raises:
        ValueError: if the weights or the texts do not suit the recipe or the preset.
        CheckpointError: if weights cannot be loaded.
    """
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    pretrained = None
    if weights.model and is_pretrained(weights.model):
        pretrained = _pretrained_tower(recipe, weights)
    elif weights.model and (weights.audio or weights.text):
        raise ValueError("--weights has both towers; leave out --audio-weights, --text-weights")
    if recipe.texts == "none" and (weights.text or weights.vocabulary):
        raise ValueError('texts="none" has no text encoder; leave out --text-weights, --bpe-vocab')
    if recipe.texts == "none" and label_texts:
        raise ValueError('texts="none" has no text encoder; leave out --label-texts')
    if recipe.texts != "none":
        prompts.fill(recipe.prompt, labels)  # refuses a wrong prompt before anything is built
    if recipe.preset == CLAP:
        return _tuned_clap(labels, recipe, weights, label_texts)
    if recipe.train_text:
        raise ValueError(
            "--train-text is for a pretrained CLAP, named with --weights; leave it out, as a "
            "preset's text encoder is trained anyway"
        )
    own = None
    if weights.model and pretrained is None:
        own = load_own_model(Path(weights.model).expanduser())
    text_encoder, tokenizer = _text_tower(recipe, weights, pretrained, own)
    audio_tower = pretrained.audio_tower if pretrained else _other_tower(recipe, weights, own)
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
        text_encoder=text_encoder,
        audio_tower=audio_tower,
        label_texts=label_texts,
    )
    if pretrained and text_encoder is not None:
        model.logit_scale.assign(pretrained.log_scale)
    if own is not None:
        copy_weights(own, model, str(weights.model))
        return model
    if weights.audio and audio_tower is None:
        load_audio_checkpoint(model.audio_tower.encoder, weights.audio)
    if text_encoder is None and weights.text:
        load_text_checkpoint(model.text_encoder, weights.text)
        model.bake_labels()
    elif recipe.text_warmup_steps and not weights.text:
        decorrelate_labels(model, recipe.text_warmup_steps, recipe.batch_size)
    return model


def _tuned_clap(
    labels: Sequence[str], recipe: Recipe, weights: Weights, label_texts: LabelTexts | None
) -> SemanticAC:
    """Build the model from a pretrained CLAP, or from one's own that began as one."""
    if weights.model is None:
        raise ValueError(
            'this recipe starts from a pretrained model: add --weights, such as "--weights '
            'clap-htsat-unfused"'
        )
    if weights.vocabulary is not None:
        raise ValueError(f"{weights.model} has its own vocabulary; leave out --bpe-vocab")
    clap = model_from(weights.model, labels, recipe.prompt)
    encoder, head = clap.audio_tower.encoder, clap.audio_tower.head
    for name, found, expected in (
        ("preset", clap.name, CLAP),
        ("precision", encoder.dtype_policy.name, recipe.precision),
    ):
        if found != expected:
            raise CheckpointError(f"{weights.model}: its {name} is {found!r}, here {expected!r}")
    if type(head) is not HEADS[recipe.head]:
        head = HEADS[recipe.head](clap.audio_tower.embedding_dim, name=recipe.head)
    model = SemanticAC.from_preset(
        CLAP,
        labels,
        prompt=recipe.prompt,
        targets=recipe.targets,
        label_smoothing=recipe.label_smoothing,
        texts=recipe.texts,
        tokenizer=clap.tokenizer,
        text_encoder=_changed(clap.text_encoder, frozen=not recipe.train_text),
        audio_tower=clap.audio_tower.with_parts(
            _changed(encoder, spec_augment=recipe.spec_augment), head
        ),
        label_texts=label_texts,
    )
    model.logit_scale.assign(clap.logit_scale)
    return model


def _changed(part: keras.Model, **arguments: object) -> keras.Model:
    """Return a part with other constructor arguments and the same weights."""
    config = part.get_config()
    if arguments.items() <= config.items():
        return part
    copy = type(part).from_config({**config, **arguments})
    copy.set_weights(part.get_weights())
    return copy


def _pretrained_tower(recipe: Recipe, weights: Weights) -> Pretrained:
    """Load a pretrained audio tower, which decides on preset, stem and head."""
    assert weights.model is not None
    if weights.audio:
        raise ValueError("--weights has an audio tower; leave out --audio-weights")
    pretrained = load_pretrained(weights.model, spec_augment=recipe.spec_augment)
    if recipe.preset != pretrained.preset or recipe.head != "cscm" or not recipe.conv_stem:
        raise ValueError(
            f"{weights.model} has the preset {pretrained.preset}, its stem and the head cscm; "
            "leave out --preset, --head and --no-conv-stem, or choose a recipe for this preset"
        )
    return pretrained


def _other_tower(recipe: Recipe, weights: Weights, own: SemanticAC | None) -> Tower | None:
    """Create the tower of a tagger, or one for another space than the preset's, if there is one."""
    if own is None or own.audio_tower.embedding_dim == presets.get(recipe.preset).embedding_dim:
        return _tagger_tower(recipe, weights)
    return AudioTower.from_preset(
        recipe.preset,
        recipe.head,
        own.audio_tower.embedding_dim,
        spec_augment=recipe.spec_augment,
        **({} if recipe.conv_stem else {"stem_channels": ()}),
    )


def _tagger_tower(recipe: Recipe, weights: Weights) -> TaggerTower | None:
    """Create the tower of a tagger, if `weights` names one."""
    if not weights.audio or not is_tagger(weights.audio):
        return None
    unused = replace(recipe.augmentation, mixup=0.0)
    if unused != Augmentation() or recipe.spec_augment or recipe.training_rate_hz:
        raise ValueError(
            "a tagger's embeddings are computed once, so that sounds cannot be changed while "
            "training, apart from --mixup; use --recipe tagger"
        )
    if recipe.head_epochs:
        raise ValueError("a tagger stays as it is in all epochs; leave out --head-epochs")
    tagger = Tagger(resolve(weights.audio), weights.tagger_rate_hz)
    head = head_from_preset(recipe.head, recipe.preset, TAGGER_HIDDEN_DIM)
    return TaggerTower.from_tagger(tagger, head, dropout=_TAGGER_DROPOUT, name="audio")


def _text_tower(
    recipe: Recipe, weights: Weights, pretrained: Pretrained | None, own: SemanticAC | None
) -> tuple[BertEncoder | CenteredText | None, Tokenizer]:
    """Load a sentence encoder, if `weights` names one or has one, and create the tokenizer."""
    if own is not None and getattr(own.text_encoder, "frozen", False) and recipe.texts == "labels":
        return own.text_encoder, own.tokenizer
    if pretrained and weights.text:
        if weights.vocabulary is not None:
            raise ValueError(f"{weights.text} has its own vocabulary; leave out --bpe-vocab")
        return replace(pretrained.space, encoder=weights.text).any_text()
    if weights.text and is_sentence_encoder(weights.text):
        if weights.vocabulary is not None:
            raise ValueError(f"{weights.text} has its own vocabulary; leave out --bpe-vocab")
        return load_sentence_encoder(weights.text, presets.get(recipe.preset).embedding_dim)
    tokenizer = presets.tokenizer(recipe.preset)
    if weights.vocabulary is not None:
        if not isinstance(tokenizer, CLIPTokenizer):
            raise ValueError(f"preset {recipe.preset!r} reads bytes; leave out --bpe-vocab")
        tokenizer = CLIPTokenizer(weights.vocabulary, tokenizer.context_length)
    return None, tokenizer
