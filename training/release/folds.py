"""A cross-validation of the recipe: how good a shipped model is, told by models like it."""

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from training.learning.recipes import Recipe
from training.runs.evaluation import Evaluation
from training.runs.run import Run, RunError, flat_differences, portable

_PROTOCOL = "last"
_BUNDLE = "model.tflite"


def read_cross_validation(directory: Path, dataset: str, recipe: Recipe) -> dict[str, Any]:
    """Read the figures of a cross-validation with a shipped model's recipe.

    Args:
        directory: where `training.crossval` has written.
        dataset: name of the one it must be of.
        recipe: which it must have.

    Returns:
        Accuracies, and the command that made them.

    Raises:
        RunError: if there is none, or it is of another dataset or recipe.
    """
    try:
        summary = json.loads((directory / "summary.json").read_text())
        figures = summary["protocols"][_PROTOCOL]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{directory} must hold a finished cross-validation, by the protocol {_PROTOCOL!r} "
            f"({type(error).__name__}: {error})."
        ) from error
    wanted = {
        "dataset": dataset,
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }
    found = {
        "dataset": summary["dataset"],
        # Seeds are repetitions, not part of the recipe.
        "recipe": {**relevant_fields(summary["recipe"]), "seed": recipe.seed},
    }
    if differences := flat_differences(found, wanted):
        told = "; ".join(f"{name} was {old}, is {new}" for name, old, new in differences)
        raise RunError(f"{directory} is a cross-validation of another recipe: {told}.")
    kept = (
        *("folds", "seeds", "accuracy", "accuracy_by_seed_and_fold", "std_over_seeds"),
        *("std_over_folds", "per_class_accuracy"),
    )
    return {
        **{name: figures[name] for name in kept},
        "command": portable(summary["command"]),
        "git_revision": summary["git_revision"],
    }


def relevant_fields(recipe: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe without the options of distillation, which older versions wrote."""
    return {name: value for name, value in recipe.items() if not name.startswith("teacher_")}


def fold_predictions(directory: Path, figures: dict[str, Any]) -> Evaluation:
    """What each model said of the clips of the fold that it was not trained on, together.

    Args:
        directory: where `training.crossval` has written.
        figures: what `read_cross_validation` returns.
    """
    runs = product(figures["folds"], figures["seeds"])
    return Evaluation.pooled(
        [
            Evaluation.load(Run(directory / f"{_PROTOCOL}-fold{fold}-seed{seed}").predictions)
            for fold, seed in runs
        ]
    )


def fold_bundles(directory: Path, figures: dict[str, Any]) -> list[tuple[int, Path]]:
    """The fold that each model was not trained on, and its bundle, of those that have one.

    Args:
        directory: where `training.crossval --keep-bundles` has written.
        figures: what `read_cross_validation` returns.
    """
    bundles = [
        (fold, directory / f"{_PROTOCOL}-fold{fold}-seed{seed}" / _BUNDLE)
        for fold, seed in product(figures["folds"], figures["seeds"])
    ]
    return [(fold, path) for fold, path in bundles if path.is_file()]
