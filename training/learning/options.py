"""Command-line options that every command which trains shares; the recipe's fields are most."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from training.datasets import DATASETS, Decoder
from training.learning.augment import Augmentation
from training.learning.recipes import RECIPES, Recipe, recipe_for


class CommandParser(argparse.ArgumentParser):
    """Takes no abbreviations, and says in one line what is wrong."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def training_options(
    leave_out: Collection[str] = (), needs_dataset: bool = True
) -> argparse.ArgumentParser:
    """The options that say what is trained and how: a parent for a command's parser.

    Args:
        leave_out: fields of the recipe that the command sets itself.
        needs_dataset: whether the command cannot do without one.
    """
    parser = CommandParser(add_help=False)
    parser.add_argument("--dataset", required=needs_dataset, choices=sorted(DATASETS))
    parser.add_argument("--data-dir", type=Path, help="where the dataset lies; else it is fetched")
    parser.add_argument(
        "--decoder",
        choices=get_args(Decoder),
        default="soundfile",
        help="what reads sound files; tfio: tensorflow-io; default: soundfile",
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="default: the preset's")
    presets = sorted({recipe.preset for recipe in RECIPES.values()})
    parser.add_argument("--preset", choices=presets, help="default: the recipe's, or tiny")
    parser.add_argument("--audio-weights", metavar="SRC", help="checkpoint of the audio encoder")
    parser.add_argument("--text-weights", metavar="SRC", help="checkpoint of the text encoder")
    parser.add_argument("--bpe-vocab", type=Path, metavar="FILE", help="CLIP's vocabulary")
    recipe = parser.add_argument_group("fields of the recipe, to differ from it")
    for cls in (Recipe, Augmentation):
        hints = get_type_hints(cls)
        for item in fields(cls):
            if item.name not in ("preset", "augmentation", *leave_out):
                recipe.add_argument(_flag(item.name), **_option(hints[item.name]))
    return parser


def parse_passing_on(
    own: CommandParser, argv: Sequence[str] | None, needs_dataset: bool = True
) -> tuple[argparse.Namespace, list[str]]:
    """Read the options of a command that trains with several seeds.

    Args:
        own: the command's own options, without `--help`; they take the place of a training's.
        argv: the command line; `sys.argv`'s if None.
        needs_dataset: whether the command cannot do without one.

    Returns:
        All options, and the arguments that are not the command's own: those of each training.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    whole = CommandParser(
        prog=own.prog,
        description=own.description,
        parents=[training_options(("seed",), needs_dataset), own],
        conflict_handler="resolve",
    )
    return whole.parse_args(argv), own.parse_known_args(argv)[1]


def chosen_recipe(arguments: argparse.Namespace) -> Recipe:
    """The named recipe, or that of the preset, with the fields that were given.

    Raises:
        ValueError: if a value is not allowed.
    """
    names = [f.name for cls in (Recipe, Augmentation) for f in fields(cls)]
    given = {name: getattr(arguments, name, None) for name in names}
    recipe = (
        RECIPES[arguments.recipe] if arguments.recipe else recipe_for(arguments.preset or "tiny")
    )
    return recipe.override(
        {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if value is not None
        }
    )


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """The command line that sets fields of the recipe to these values."""
    arguments: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            arguments.append(_flag(name if value else f"no_{name}"))
        else:
            parts = value if isinstance(value, tuple) else (value,)
            arguments += [_flag(name), *map(str, parts)]
    return arguments


def positive_int(text: str) -> int:
    """Read a count."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(hint: Any) -> dict[str, Any]:
    """How argparse reads a field of that type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"type": get_args(hint)[0], "nargs": len(get_args(hint))}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    return {"type": hint}
