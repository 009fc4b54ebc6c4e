"""Command-line options shared by commands: the dataset's, and those of a training."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from edge.config.options import CommandParser, argument_keywords, flag, typed_fields
from semanticac_keras.checkpoints.registry import is_tagger
from semanticac_keras.pretrained import is_pretrained
from training.datasets import DATASETS, AudioDataset, Decoder
from training.learning.augment import Augmentation
from training.learning.own_weights import is_clap
from training.learning.recipes import CLAP, RECIPES, Recipe, recipe_for

LABEL_TEXTS: dict[str, Any] = {
    "type": Path,
    "metavar": "FILE",
    "help": 'TOML file of texts that replace labels in the prompt: "label" = "text", or a list of '
    "texts, whose vectors are averaged",
}


def dataset_options(required: bool = True) -> argparse.ArgumentParser:
    """Create the parent of the parser of a command that reads a dataset.

    Args:
        required: whether `--dataset` is required.
    """
    parser = CommandParser(add_help=False)
    parser.add_argument(
        "--dataset",
        required=required,
        choices=sorted(DATASETS),
        help="demo: generated sounds; folder: your own recordings in --data-dir",
    )
    parser.add_argument(
        "--data-dir", type=Path, help="the dataset's directory; default: download it"
    )
    parser.add_argument(
        "--decoder",
        choices=get_args(Decoder),
        default="soundfile",
        help="decoder of sound files (tfio: tensorflow-io); default: soundfile",
    )
    return parser


def training_options(
    leave_out: Collection[str] = (), needs_dataset: bool = True
) -> argparse.ArgumentParser:
    """Create the parent of a training command's parser: data, weights and recipe.

    Args:
        leave_out: fields of the recipe that the command sets itself.
        needs_dataset: whether `--dataset` is required.
    """
    parser = CommandParser(add_help=False, parents=[dataset_options(needs_dataset)])
    parser.add_argument(
        "--recipe", choices=sorted(RECIPES), help="default: that of the weights or the preset"
    )
    presets = sorted({recipe.preset for recipe in RECIPES.values()} - {CLAP})
    parser.add_argument("--preset", choices=presets, help="default: the recipe's preset, or tiny")
    parser.add_argument(
        "--audio-weights",
        metavar="SRC",
        help="path or name of pretrained weights for the audio encoder, or of a tagger (yamnet, or "
        "a .tflite file), which takes its place",
    )
    add_tagger_rate(parser)
    parser.add_argument(
        "--text-weights",
        metavar="SRC",
        help="path or name of pretrained weights for the text encoder, or of a sentence encoder "
        "(minilm, or a directory), which takes its place",
    )
    parser.add_argument(
        "--weights",
        metavar="SRC",
        help="start from a pretrained model: pretrained, the audio tower that comes with the "
        "package, or a path of one; a path or name of a published model, such as "
        "clap-htsat-unfused; or your own, a run directory or a .keras file; its labels may differ",
    )
    parser.add_argument("--bpe-vocab", type=Path, metavar="FILE", help="CLIP's vocabulary file")
    parser.add_argument("--label-texts", **LABEL_TEXTS)
    recipe = parser.add_argument_group(
        "changes to the recipe", "Fields of training.learning.recipes.Recipe, documented there."
    )
    for cls in (Recipe, Augmentation):
        for item, kind in typed_fields(cls):
            if item.name not in ("preset", "augmentation", *leave_out):
                recipe.add_argument(flag(item.name), **argument_keywords(item, kind))
    return parser


def parse_passing_on(
    own: CommandParser, argv: Sequence[str] | None, needs_dataset: bool = True
) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line of a command that trains with several seeds.

    Args:
        own: parser of the command's own options, without `--help`; these override a training's.
        argv: the command line; `sys.argv`'s if None.
        needs_dataset: whether `--dataset` is required.

    Returns:
        All options, and the arguments to pass on to each training.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    parser = CommandParser(
        prog=own.prog,
        description=own.description,
        parents=[training_options(("seed",), needs_dataset), own],
        conflict_handler="resolve",
    )
    return parser.parse_args(argv), own.parse_known_args(argv)[1]


def recipe_for_dataset(arguments: argparse.Namespace, dataset: AudioDataset) -> Recipe:
    """Return the chosen recipe, with independent labels if clips have several or none.

    Raises:
        ValueError: if a value is not allowed, or the targets suit only clips with one label.
    """
    recipe = chosen_recipe(arguments)
    if dataset.exclusive or recipe.targets == "sigmoid":
        return recipe
    if arguments.targets is None:
        return recipe.override({"targets": "sigmoid"})
    number, total = dataset.num_not_single, len(dataset.clips)
    raise ValueError(
        f"{number:,} of {total:,} clips of {dataset.name} have several labels or none, and "
        f'targets="{recipe.targets}" gives each clip one. Leave out --targets, or use sigmoid.'
    )


def chosen_recipe(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe that is named or follows from weights or preset, with the fields set.

    Raises:
        ValueError: if a value is not allowed.
    """
    names = [f.name for cls in (Recipe, Augmentation) for f in fields(cls)]
    values = {name: getattr(arguments, name, None) for name in names}
    if arguments.weights and is_tagger(arguments.weights):
        raise ValueError(f"{arguments.weights} is a tagger; name it with --audio-weights")
    tower = bool(arguments.weights) and is_pretrained(arguments.weights)
    if clap := bool(arguments.weights) and not tower and is_clap(arguments.weights):
        if arguments.preset:
            raise ValueError(
                f"--weights {arguments.weights} is no model of a preset; leave out --preset, or "
                "correct the path"
            )
        values["preset"] = CLAP
    if arguments.recipe:
        recipe = RECIPES[arguments.recipe]
    elif arguments.audio_weights and is_tagger(arguments.audio_weights):
        recipe = RECIPES["tagger"]
    elif clap:
        recipe = RECIPES["finetune"]
    elif tower:
        recipe = RECIPES["pretrained"]
    else:
        recipe = recipe_for(arguments.preset or "tiny")
    return recipe.override(
        {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if value is not None
        }
    )


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """Format fields of the recipe as a command line."""
    arguments: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            arguments.append(flag(name if value else f"no_{name}"))
        else:
            parts = value if isinstance(value, tuple) else (value,)
            arguments += [flag(name), *map(str, parts)]
    return arguments


def without_text_options(arguments: Sequence[str]) -> list[str]:
    """Leave out the options that a model without a text encoder refuses.

    Args:
        arguments: a training's command line.
    """
    parser = CommandParser(add_help=False)
    for option in ("--text-weights", "--bpe-vocab", "--label-texts"):
        parser.add_argument(option)
    return parser.parse_known_args(arguments)[1]


def add_tagger_rate(parser: argparse._ActionsContainer) -> None:
    """Add `--tagger-rate`, which a tagger's file does not record."""
    parser.add_argument(
        "--tagger-rate",
        type=positive_int,
        default=16_000,
        metavar="HZ",
        help="sample rate of the tagger's input; default: 16000",
    )


def positive_int(text: str) -> int:
    """Parse a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value
