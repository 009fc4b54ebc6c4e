"""Files of a finished cross-validation, for the tests that read one."""

import json

import numpy as np

from training.runs.evaluation import Evaluation


def write_cross_validation(directory, recipe, bundle):
    """Write a cross-validation over two folds, each with a bundle and predictions.

    Args:
        directory: created.
        recipe: of the cross-validation.
        bundle: content of the bundles, in bytes.

    Returns:
        The directory.
    """
    figures = {
        "folds": [1, 2],
        "seeds": [3],
        "accuracy": 0.75,
        "accuracy_by_seed_and_fold": {"3": [1.0, 0.5]},
        "std_over_seeds": None,
        "std_over_folds": 0.35,
        "per_class_accuracy": {"hiss": 1.0, "low hum": 0.5},
    }
    recipe = {name: value for name, value in recipe.to_json().items() if name != "seed"}
    summary = {
        "dataset": "sounds",
        "recipe": recipe,
        "protocols": {"last": figures},
        "command": ["crossval", "--data-dir", str(directory)],
        "git_revision": None,
    }
    for fold in figures["folds"]:
        run = directory / f"last-fold{fold}-seed3"
        run.mkdir(parents=True)
        (run / "model.tflite").write_bytes(bundle)
        scores = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
        evaluation = Evaluation(("hiss", "low hum"), ("a", "b"), np.array([0, 1]), scores)
        evaluation.save(run / "predictions.npz")
    (directory / "summary.json").write_text(json.dumps(summary))
    return directory
