"""A model with any labels: one's own, a published one, or a tagger."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semanticac_keras import CheckpointError, ClassVectors, SemanticAC, load_pretrained, prompts
from semanticac_keras.checkpoints.registry import is_tagger
from semanticac_keras.losses import Targets
from semanticac_keras.pretrained import is_pretrained
from semanticac_keras.prompts import LabelTexts
from training.learning.class_names import ClassNames, model_of_tagger
from training.learning.own_weights import load_own_model, own_path


def model_from(
    source: str,
    labels: Sequence[str],
    prompt: str | None = None,
    label_texts: LabelTexts | None = None,
    class_names: ClassNames | None = None,
    targets: Targets = "prototype",
) -> SemanticAC:
    """Load a trained model and set its labels.

    Args:
        source: one's own model, a `.keras` file or a run directory; a published one, see
            `SemanticAC.from_pretrained`; a tagger, see `SemanticAC.from_tagger`; or a pretrained
            tower, see `load_pretrained`.
        labels: class names, distinct.
        prompt: text around a label, with `{label}`; the model's own if not given.
        label_texts: texts that replace a label's name in its prompt, see `SemanticAC`.
        class_names: what a tagger needs; None is the default of each.
        targets: form of the scores of a pretrained tower; other models have their own.

    Raises:
        CheckpointError: if the model cannot be loaded, or does not read its labels as texts.
        OSError: if a tagger's class names cannot be read.
        ValueError: if the labels, their texts or the prompt are invalid, or the tokenizer refuses a
            text or takes two of them for the same; or for a tagger, see `model_of_tagger`.
    """
    prompts.fill("{label}" if prompt is None else prompt, labels)  # before anything is loaded
    class_names = class_names or ClassNames()
    if is_tagger(source):
        return model_of_tagger(source, labels, prompt, class_names, label_texts)
    pretrained = is_pretrained(source)
    if given := class_names.given(pretrained):
        raise ValueError(
            f"{' and '.join(given)} can be given for a tagger only, a .tflite file. "
            f"Received: --weights {source}"
        )
    if pretrained:
        return _model_of_tower(
            source, labels, prompt, label_texts, class_names.text_weights, targets
        )
    path = own_path(source)
    if path is None:
        return SemanticAC.from_pretrained(source, labels, prompt=prompt, label_texts=label_texts)
    model = load_own_model(path)
    if model.random_texts or isinstance(model.text_encoder, ClassVectors):
        texts = "random" if model.random_texts else "none"
        raise CheckpointError(
            f'{path} was trained with texts="{texts}", so new labels mean nothing to it. Name a '
            "model that was trained on the texts of its labels."
        )
    model.set_labels(labels, prompt, label_texts)
    return model


def _model_of_tower(
    source: str,
    labels: Sequence[str],
    prompt: str | None,
    label_texts: LabelTexts | None,
    text_weights: str | None,
    targets: Targets,
) -> SemanticAC:
    pretrained = load_pretrained(source)
    if text_weights is not None:
        space = replace(pretrained.space, encoder=text_weights)
        pretrained = replace(pretrained, space=space)
    return SemanticAC.from_preset(
        pretrained.preset,
        labels,
        prompt=prompt,
        targets=targets,
        label_texts=label_texts,
        weights=pretrained,
    )


def short_name(source: str) -> str:
    """Return a model's name for results: the source's, without directories and `.keras`."""
    return Path(source).resolve().name.removesuffix(".keras")
