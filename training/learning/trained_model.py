"""A trained model with other labels: one's own, or a published one."""

from collections.abc import Sequence
from pathlib import Path

from semanticac_keras import CheckpointError, ClassVectors, SemanticAC, prompts
from semanticac_keras.prompts import LabelTexts
from training.learning.own_weights import load_own_model, run_of
from training.learning.recipes import CLAP
from training.runs.run import Run


def own_path(source: str) -> Path | None:
    """Return the path of one's own model, or None if the source is a published one.

    Args:
        source: a `.keras` file, a run directory, or anything else.
    """
    path = Path(source).expanduser()
    run = Run(path)
    is_run = any(file.exists() for file in (run.model, run.history, run.clips))
    return path if path.suffix == ".keras" or is_run else None


def is_clap(source: str) -> bool:
    """Return whether a source is a published model, or one's own that began as one.

    Args:
        source: as for `model_from`.
    """
    path = own_path(source)
    return path is None or run_of(path).preset == CLAP


def model_from(
    source: str,
    labels: Sequence[str],
    prompt: str | None = None,
    label_texts: LabelTexts | None = None,
) -> SemanticAC:
    """Load a trained model and set its labels.

    Args:
        source: one's own model, a `.keras` file or a run directory; or a published one, see
            `SemanticAC.from_pretrained`.
        labels: class names, distinct.
        prompt: text around a label, with `{label}`; the model's own if not given.
        label_texts: texts that replace a label's name in its prompt, see `SemanticAC`.

    Raises:
        CheckpointError: if the model cannot be loaded, or does not read its labels as texts.
        ValueError: if the labels, their texts or the prompt are invalid, or the tokenizer refuses a
            text or takes two of them for the same.
    """
    prompts.fill("{label}" if prompt is None else prompt, labels)  # before anything is loaded
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


def short_name(source: str) -> str:
    """Return a model's name for results: the source's, without directories and `.keras`."""
    return Path(source).resolve().name.removesuffix(".keras")
