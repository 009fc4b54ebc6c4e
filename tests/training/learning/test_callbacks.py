"""A fold that chooses the epoch: what it sees, what it keeps, and how a run goes on."""

import json

import keras
import numpy as np
import pytest

from semanticac_keras import ExportError
from semanticac_keras.audio_tower import window_batch
from training import fit as command
from training.datasets import load_dataset
from training.datasets.split import Split
from training.learning.batches import one_hot
from training.learning.callbacks import finalize_weights
from training.runs import outcome
from training.runs.evaluation import Evaluation
from training.runs.run import Run, best_epoch

slow = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def arguments(micro_arguments, monkeypatch):
    """Command line of a run whose averaged weights lag far behind; it is not exported."""

    def refuse(*_, **__):
        raise ExportError("not in this test")

    monkeypatch.setattr(outcome, "export_tflite", refuse)
    return [
        *(*micro_arguments, "--targets", "prototype", "--ema-momentum", "0.9"),
        *("--label-smoothing", "0.2", "--fold", "1", "--validation-fold", "2"),
    ]


def validation_loss(model, folder):
    dataset = load_dataset("folder", folder)
    clips = Split.of(dataset, 1, 2).validation
    sounds = dataset.load(clips, model.front_end.sample_rate_hz)
    windows, owners = window_batch(sounds, model.front_end.window_samples)
    truth = np.array([dataset.clips[i].label for i in clips])[owners]
    return model.evaluate(windows, one_hot(truth, 2), verbose=0, return_dict=True)["loss"]


def test_no_clip_has_two_roles(folder):
    dataset = load_dataset("folder", folder)
    split = Split.of(dataset, 1, 2)
    parts = (split.train, split.validation, split.test)
    assert [{dataset.clips[i].fold for i in part} for part in parts] == [{3, 4, 5}, {2}, {1}]
    assert sorted(np.concatenate(parts)) == list(range(len(dataset.clips)))
    for wrong in (1, 9):
        with pytest.raises(ValueError, match="must be one of the folds that are not held out"):
            Split.of(dataset, 1, wrong)


def test_the_later_of_equal_epochs_is_best():
    rows = [{"epoch": i + 1.0, "val_accuracy": share} for i, share in enumerate([0.5, 1, 1, 0.9])]
    assert best_epoch(rows) == 3
    assert best_epoch([]) is None


class TestRuns:
    pytestmark = slow

    def test_validates_and_keeps_the_averaged_weights(self, arguments, folder, tmp_path):
        run = Run(tmp_path / "run")
        assert command.main([*arguments, "--out", str(run.directory)]) == 1
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

        # The checkpoint holds the weights in flight and their averages.
        kept.load_weights(run.checkpoint)
        kept.bake_labels()
        assert abs(validation_loss(kept, folder) - history[-1]["val_loss"]) > 1e-3
        finalize_weights(kept)
        np.testing.assert_allclose(
            validation_loss(kept, folder), history[-1]["val_loss"], rtol=1e-5
        )

    def test_resumes_to_the_same_choice(self, arguments, tmp_path, monkeypatch):
        straight, resumed = Run(tmp_path / "straight"), Run(tmp_path / "resumed")
        assert command.main([*arguments, "--out", str(straight.directory)]) == 1

        def interrupt(run, rows):
            write(run, rows)
            if len(rows) == 4:  # before its checkpoint is written
                raise KeyboardInterrupt

        write = Run.write_history
        monkeypatch.setattr(Run, "write_history", interrupt)
        assert command.main([*arguments, "--out", str(resumed.directory)]) == 1
        assert not resumed.metrics.exists()
        monkeypatch.setattr(Run, "write_history", write)
        changed = [*arguments[:-1], "3", "--resume", str(resumed.directory)]
        assert command.main(changed) == 1
        assert not resumed.metrics.exists()
        assert command.main([*arguments, "--resume", str(resumed.directory)]) == 1

        one, other = (json.loads(run.metrics.read_text()) for run in (straight, resumed))
        assert one["validation"] == other["validation"]
        assert [row["epoch"] for row in resumed.read_history()] == [1, 2, 3, 4, 5, 6]
        np.testing.assert_allclose(
            Evaluation.load(resumed.predictions).probabilities,
            Evaluation.load(straight.predictions).probabilities,
            atol=1e-4,
        )

    def test_a_run_that_only_counts_leaves_no_weights(self, arguments, tmp_path):
        run = Run(tmp_path / "run")
        assert command.main([*arguments, "--no-export", "--out", str(run.directory)]) == 0
        assert {path.name for path in run.directory.iterdir()} == {
            *("config.json", "history.csv", "metrics.json", "predictions.npz", "report.md"),
            *("curves.png", "confusion_matrix.png", "per_class_accuracy.png", "reliability.png"),
        }
