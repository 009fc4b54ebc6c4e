"""Cross-validation with the recipe of a packaged model, which estimates its accuracy."""

import json
from itertools import product
from pathlib import Path
from typing import Any

from training.learning.recipes import Recipe
from training.runs.evaluation import Evaluation
from training.runs.run import Run, RunError, flat_differences, portable

_PROTOCOL = "last"
_BUNDLE = "model.tflite"


def read_cross_validation(directory: Path, dataset: str, recipe: Recipe) -> dict[str, Any]:
    """Read the figures of a cross-validation with a packaged model's recipe.

    Args:
        directory: output of `training.crossval`.
        dataset: required name of the dataset.
        recipe: required recipe.

    Returns:
        Accuracies, and the command of the cross-validation.

    Raises:
        RunError: if it is not finished, or has another dataset or recipe.
    """
    try:
        summary = json.loads((directory / "summary.json").read_text())
        figures = summary["protocols"][_PROTOCOL]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{directory} must hold a finished cross-validation with the protocol {_PROTOCOL!r} "
            f"({type(error).__name__}: {error})."
        ) from error
    expected = {
        "dataset": dataset,
        "recipe": json.loads(json.dumps(recipe.to_json())),
    }
    found = {
        "dataset": summary["dataset"],
        # Seeds are repetitions, not part of the recipe.
        "recipe": {**relevant_fields(summary["recipe"]), "seed": recipe.seed},
    }
    if differences := flat_differences(found, expected):
        details = "; ".join(f"{name} was {old}, is {new}" for name, old, new in differences)
        raise RunError(f"{directory} is a cross-validation of another recipe: {details}.")
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
    """Return a stored recipe without the distillation options written by older versions."""
    return {name: value for name, value in recipe.items() if not name.startswith("teacher_")}


def fold_predictions(directory: Path, figures: dict[str, Any]) -> Evaluation:
    """Pool the predictions of all models on their held-out folds.

    Args:
        directory: output of `training.crossval`.
        figures: as returned by `read_cross_validation`.
    """
    runs = product(figures["folds"], figures["seeds"])
    return Evaluation.pooled(
        [
            Evaluation.load(Run(directory / f"{_PROTOCOL}-fold{fold}-seed{seed}").predictions)
            for fold, seed in runs
        ]
    )


def fold_bundles(directory: Path, figures: dict[str, Any]) -> list[tuple[int, Path]]:
    """Return the held-out fold and the bundle of each model whose bundle was kept.

    Args:
        directory: output of `training.crossval --keep-bundles`.
        figures: as returned by `read_cross_validation`.
    """
    bundles = [
        (fold, directory / f"{_PROTOCOL}-fold{fold}-seed{seed}" / _BUNDLE)
        for fold, seed in product(figures["folds"], figures["seeds"])
    ]
    return [(fold, path) for fold, path in bundles if path.is_file()]
