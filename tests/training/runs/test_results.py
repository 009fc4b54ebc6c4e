import math

import numpy as np
import pytest

from training import crossval
from training.datasets import load_dataset
from training.runs.evaluation import Evaluation
from training.runs.jobs import FitProcess
from training.runs.results import Results, Spread, percent
from training.runs.run import Run, RunError, write_json
from training.runs.tagging import Tagging


def evaluation(*correct):
    """Create an evaluation with one class per clip, from whether each prediction is correct."""
    truth = np.arange(len(correct))
    predicted = np.where(correct, truth, (truth + 1) % len(correct))
    labels = tuple(map(str, truth))
    return Evaluation(labels, labels, truth, np.eye(len(correct), dtype=np.float32)[predicted])


def results(accuracies):
    """Create runs on four clips from accuracies by seed and fold."""
    evaluations = {
        (fold, seed): evaluation(*(i < 4 * share for i in range(4)))
        for seed, row in enumerate(accuracies)
        for fold, share in enumerate(row, start=1)
    }
    return Results((1, 2), (0, 1, 2), evaluations, {key: {"x": key[1]} for key in evaluations})


def test_spread_uses_the_sample_standard_deviation():
    spread = Spread.of([1.0, 2.0, 3.0, 6.0])
    assert spread.mean == 3.0
    assert spread.std == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3))
    assert spread.standard_error == pytest.approx(spread.std / 2)
    assert Spread.of([0.5]) == Spread(0.5, None, 1)
    assert [percent(Spread.of(values)) for values in ([0.5], [0.5, 0.6])] == ["50.0", "55.0 ± 7.1"]


def test_spread_over_seeds_and_over_folds():
    runs = results([[1.0, 0.5], [0.75, 0.5], [0.5, 0.5]])
    assert runs.over_seeds() == Spread.of([0.75, 0.625, 0.5])
    assert runs.over_folds() == Spread.of([0.75, 0.5])
    assert runs.mean("x") == 1.0
    assert runs.pooled().accuracy == runs.over_seeds().mean == 0.625


def test_differences_are_paired():
    low = results([[0.5, 0.0], [0.25, 0.25], [0.5, 0.0]])
    high = results([[0.75, 0.25], [0.5, 0.5], [0.75, 0.25]])
    assert high.difference(low) == Spread(0.25, 0.0, 6)  # though each spreads over the runs


def test_refuses_predictions_of_other_clips(folder, tmp_path):
    dataset = load_dataset("folder", folder)
    run = Run(tmp_path / "run")
    run.directory.mkdir()
    names = tuple(clip.name for clip in dataset.clips if clip.fold == 1)
    truth = np.array([clip.label for clip in dataset.clips if clip.fold == 1])
    probabilities = np.eye(2, dtype=np.float32)[truth]
    write_json(run.metrics, {"accuracy": 1.0})
    Evaluation(dataset.labels, names, truth, probabilities).save(run.predictions)
    assert Results.read({(1, 0): FitProcess(run, ())}, dataset).over_seeds().mean == 1.0
    Evaluation(dataset.labels, ("x", "y"), truth, probabilities).save(run.predictions)
    with pytest.raises(RunError, match="tested on different clips than sounds now contains"):
        Results.read({(1, 0): FitProcess(run, ())}, dataset)


def test_independent_labels_are_compared_by_average_precision():
    truth, scores = np.array([[1, 0], [0, 1]]), np.eye(2, dtype=np.float32)
    evaluations = {
        (fold, 0): Tagging(("dog", "rain"), ("x", "y"), truth, of_fold)
        for fold, of_fold in ((1, scores), (2, 1 - scores))
    }
    figures = {key: {"mean_average_precision_last_epoch": 0.5} for key in evaluations}
    found = Results((1, 2), (0,), evaluations, figures)
    assert (found.measure, found.qualities.tolist()) == ("mean average precision", [[1.0, 0.5]])
    assert found.mean(f"{found.key}_last_epoch") == 0.5
    pooled = found.pooled()
    assert isinstance(pooled, Tagging)
    assert pooled.per_class() == {"dog": 0.5, "rain": 0.5}
    lines = crossval._accuracy_section("last", found)
    assert "| mean average precision in % | fold 1 | fold 2 | mean |" in lines
