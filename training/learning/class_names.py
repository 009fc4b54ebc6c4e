"""A tagger that answers any labels by the names of its classes, without training."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.config.options import CommandParser
from semanticac_keras import (
    ClassProfile,
    SemanticAC,
    load_sentence_encoder,
    prompts,
    read_class_names,
)
from semanticac_keras.checkpoints.registry import resolve
from semanticac_keras.prompts import LabelTexts
from semanticac_keras.sound_files import AUDIO_SUFFIXES
from semanticac_keras.tagger import Tagger
from training.learning.options import add_tagger_rate


@dataclass(frozen=True)
class ClassNames:
    """What a tagger needs for labels by its class names.

    Args:
        labels: file of the names, see `read_class_names`; the tagger's own list if not given.
        rate_hz: sample rate of the tagger's input.
        text_weights: sentence encoder, see `load_sentence_encoder`; MiniLM if not given.
        background: directory of recordings, see `SemanticAC.from_tagger`.
    """

    labels: Path | None = None
    rate_hz: int = 16_000
    text_weights: str | None = None
    background: Path | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "ClassNames":
        """Return the values of `class_name_options` on a command line."""
        return cls(
            arguments.tagger_labels,
            arguments.tagger_rate,
            arguments.text_weights,
            arguments.background,
        )

    def given(self, pretrained: bool) -> list[str]:
        """Options that have no effect on a model that is no tagger, and were given.

        Args:
            pretrained: whether the model is a pretrained tower, which needs a sentence encoder too.
        """
        values = {
            "--tagger-labels": self.labels,
            "--text-weights": None if pretrained else self.text_weights,
            "--background": self.background,
        }
        return [option for option, value in values.items() if value is not None]


def class_name_options() -> argparse.ArgumentParser:
    """Create the parent of the parser of a command that takes a tagger as `--weights`."""
    parser = CommandParser(add_help=False)
    group = parser.add_argument_group(
        "a tagger", "A .tflite tagger, or yamnet, answers labels by its nearest class names."
    )
    group.add_argument(
        "--tagger-labels",
        type=Path,
        metavar="FILE",
        help="names of the tagger's classes: a text file with one a line, or a table with the "
        "column display_name, such as yamnet_class_map.csv; default: the list in the tagger's file",
    )
    add_tagger_rate(group)
    group.add_argument(
        "--text-weights",
        metavar="SRC",
        help="path or name of the sentence encoder that compares labels and names, also for "
        "--weights pretrained; default: minilm",
    )
    group.add_argument(
        "--background",
        type=Path,
        metavar="DIR",
        help="directory of any recordings of yours, without labels; scores are compared with what "
        "is usual there",
    )
    return parser


def model_of_tagger(
    source: str,
    labels: Sequence[str],
    prompt: str | None,
    names: ClassNames,
    label_texts: LabelTexts | None = None,
) -> SemanticAC:
    """Create a model from a tagger, see `SemanticAC.from_tagger`.

    Args:
        source: path of a `.tflite` file, or a registered name.
        labels: class names, distinct.
        prompt: text around a label, with `{label}`; the label itself if not given.
        names: what else the tagger needs.
        label_texts: texts that replace a label's name in its prompt, see `SemanticAC`.

    Raises:
        CheckpointError: if the tagger or the sentence encoder is not available.
        OSError: if the names cannot be read.
        ValueError: if the tagger, the names, the labels or the background are invalid.
    """
    background = [] if names.background is None else _recordings(names.background)
    tagger = Tagger(resolve(source), names.rate_hz)
    class_names = read_class_names(tagger, names.labels)
    encoder, tokenizer = load_sentence_encoder(names.text_weights or "minilm")
    return SemanticAC.from_tagger(
        tagger,
        class_names,
        labels,
        prompt or "{label}",
        text_encoder=encoder,
        tokenizer=tokenizer,
        background=background,
        label_texts=label_texts,
    )


def nearest_names(model: SemanticAC) -> dict[str, str]:
    """List the class names that are nearest to each label's first text, with their shares.

    Returns:
        Text by label; empty for a model that does not compare labels with class names.
    """
    if not isinstance(model.text_encoder, ClassProfile):
        return {}
    firsts = prompts.fill(model.prompt, [texts[0] for texts in model.label_texts.values()])
    rows = model.text_encoder.nearest(model.tokenizer(firsts))
    texts = [", ".join(f"{name} {share:.2f}" for name, share in row) for row in rows]
    return dict(zip(model.labels, texts, strict=True))


def _recordings(directory: Path) -> list[Path]:
    """Return the sound files in a directory and the directories in it, apart from hidden ones.

    Raises:
        ValueError: if there are none.
    """
    paths = sorted(
        path
        for path in directory.rglob("[!.]*")
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()
    )
    if not paths:
        raise ValueError(f"--background must have sound files in it. Received: {directory}")
    return paths
