"""A validation fold: validation with averaged weights, the selected epoch, and resuming."""

import json

import keras
import numpy as np
import pytest

from semanticac_keras import ExportError
from semanticac_keras.audio_tower import window_batch
from training import fit as command
from training.datasets import load_dataset
from training.datasets.split import Split
from training.learning.batches import label_shares
from training.learning.callbacks import finalize_weights
from training.runs import outcome
from training.runs.evaluation import Evaluation
from training.runs.run import Run, best_epoch

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager")]

# The averaged weights lag far behind.
OPTIONS = ("--targets", "prototype", "--ema-momentum", "0.9", "--label-smoothing", "0.2")
EPOCHS = ("--epochs", "4")
FOLDS = ("--fold", "1", "--validation-fold", "2")


@pytest.fixture
def arguments(micro_arguments, monkeypatch):
    """Command line of a run with a validation fold. Its export fails, so it exits with 1."""

    def refuse(*_, **__):
        raise ExportError("not in this test")

    monkeypatch.setattr(outcome, "export_tflite", refuse)
    return [*micro_arguments, *OPTIONS, *EPOCHS, *FOLDS]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Path of a run with these arguments, which the first test to ask trains."""
    return tmp_path_factory.mktemp("finished") / "run"


@pytest.fixture
def run(arguments, finished):
    """A finished run. Tests must not change its files."""
    if not finished.exists():
        assert command.main([*arguments, "--out", str(finished)]) == 1
    return Run(finished)


def validation_loss(model, folder):
    dataset = load_dataset("folder", folder)
    clips = Split.of(dataset, 1, 2).validation
    sounds = dataset.load(clips, model.front_end.sample_rate_hz)
    windows, owners = window_batch(sounds, model.front_end.window_samples)
    truth = np.array([dataset.clips[i].label for i in clips])[owners]
    return model.evaluate(windows, label_shares(truth, 2), verbose=0, return_dict=True)["loss"]


def test_validates_and_keeps_the_averaged_weights(run, folder):
    history, figures = run.read_history(), json.loads(run.metrics.read_text())
    assert figures["validation"]["epoch"] == best_epoch(history)
    assert figures["validation"]["accuracy"] == max(row["val_accuracy"] for row in history)
    assert figures["accuracy"] == figures["accuracy_selected_on_validation"]
    assert figures["accuracy"] == Evaluation.load(run.predictions).accuracy
    assert "selected on validation" in (run.directory / "report.md").read_text()
    assert not list(run.directory.glob("selected-*"))

    kept = keras.saving.load_model(run.directory / "model.keras")
    seen = history[figures["validation"]["epoch"] - 1]["val_loss"]
    np.testing.assert_allclose(validation_loss(kept, folder), seen, rtol=1e-5)

    # The checkpoint holds the current weights and their averages.
    kept.load_weights(run.checkpoint)
    kept.bake_labels()
    assert abs(validation_loss(kept, folder) - history[-1]["val_loss"]) > 1e-3
    finalize_weights(kept)
    np.testing.assert_allclose(validation_loss(kept, folder), history[-1]["val_loss"], rtol=1e-5)


def test_a_resumed_run_selects_the_same_epoch(run, arguments, tmp_path, monkeypatch):
    def interrupt(self, rows):
        write_history(self, rows)
        if len(rows) == 3:  # before its checkpoint is written
            raise KeyboardInterrupt

    write_history, resumed = Run.write_history, Run(tmp_path / "resumed")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_history", interrupt)
        assert command.main([*arguments, "--out", str(resumed.directory)]) == 1
    assert not resumed.metrics.exists()
    changed = [*arguments[:-1], "3", "--resume", str(resumed.directory)]
    assert command.main(changed) == 1
    assert not resumed.metrics.exists()
    assert command.main([*arguments, "--resume", str(resumed.directory)]) == 1

    straight, other = (json.loads(each.metrics.read_text()) for each in (run, resumed))
    assert straight["validation"] == other["validation"]
    assert [row["epoch"] for row in resumed.read_history()] == [1, 2, 3, 4]
    np.testing.assert_allclose(
        Evaluation.load(resumed.predictions).probabilities,
        Evaluation.load(run.predictions).probabilities,
        atol=1e-4,
    )


def test_a_run_without_export_keeps_no_weights(arguments, tmp_path):
    run = tmp_path / "run"
    options = ["--no-export", "--epochs", "1", "--out", str(run)]
    assert command.main([*arguments, *options]) == 0
    assert {path.name for path in run.iterdir()} == {
        *(
            ".lock",
            "clips.json",
            "config.json",
            "history.csv",
            "metrics.json",
            "predictions.npz",
            "report.md",
        ),
        *("curves.png", "confusion_matrix.png", "per_class_accuracy.png", "reliability.png"),
    }
