"""Cross-validations with the recipe of a packaged model."""

from dataclasses import replace

import pytest

from tests.micro import RECIPE
from tests.training.release.cross_validations import write_cross_validation
from training import crossval
from training.datasets import load_dataset
from training.release.folds import fold_bundles, fold_predictions, read_cross_validation
from training.runs.run import RunError


@pytest.fixture
def folds(tmp_path):
    return write_cross_validation(tmp_path / "folds", RECIPE, b"bundle")


def test_figures_bundles_and_predictions_are_read(folds):
    figures = read_cross_validation(folds, "sounds", RECIPE)

    assert figures["accuracy"] == 0.75
    assert figures["command"] == ["crossval", "--data-dir", "folds"]
    assert [fold for fold, _ in fold_bundles(folds, figures)] == [1, 2]
    assert fold_predictions(folds, figures).truth.tolist() == [0, 1, 0, 1]


def test_another_recipe_is_rejected(folds):
    with pytest.raises(RunError, match="of another recipe: epochs was 6, is 1"):
        read_cross_validation(folds, "sounds", replace(RECIPE, epochs=1))


def test_an_unfinished_cross_validation_is_rejected(tmp_path):
    with pytest.raises(RunError, match="must hold a finished cross-validation"):
        read_cross_validation(tmp_path, "sounds", RECIPE)


def test_a_cross_validation_keeps_bundles_on_request(micro_arguments, folder, tmp_path):
    dataset = load_dataset("folder", folder, progress=False)
    for keep, ending in ((True, ["--quantization", "dynamic_int8"]), (False, ["--no-export"])):
        job = crossval.plan(tmp_path, micro_arguments, dataset, [1], [0], keep_bundles=keep)[1, 0]
        assert list(job.arguments)[-len(ending) :] == ending
