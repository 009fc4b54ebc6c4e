"""A full disk: each file of a run is named, and what was there stays."""

import errno
import resource

import keras
import numpy as np
import pytest

from training.datasets import AudioDataset, Clip
from training.learning.callbacks import save_weights
from training.runs import outcome
from training.runs.evaluation import Evaluation
from training.runs.files import RunError, writing
from training.runs.plots import plot_confusion
from training.runs.run import Run, write_json

CLIPS = (Clip("x", 0, 1, "x", None, 1.0), Clip("y", 1, 2, "y", None, 1.0))
DATASET = AudioDataset("sounds", ("a", "b"), CLIPS, "", "", read=lambda *_: np.zeros(1))
EVALUATION = Evaluation(("a", "b"), ("x",), np.array([0]), np.eye(1, 2, dtype=np.float32))


@pytest.fixture
def full_disk():
    """Fail each write beyond the first bytes of a file; Python ignores the signal SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def model():
    return keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])


def save_model(path, model):
    with writing(path) as temporary:
        model.save(temporary)


WRITERS = {
    "history.csv": lambda path, _: Run(path.parent).write_history([{"epoch": 1.0, "loss": 0.5}]),
    "metrics.json": lambda path, _: write_json(path, {"accuracy": 0.123456789}),
    "predictions.npz": lambda path, _: EVALUATION.save(path),
    "plot.png": lambda path, _: plot_confusion(EVALUATION, path),
    "checkpoint.weights.h5": lambda path, model: save_weights(model, path),
    "model.keras": save_model,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_file(name, tmp_path, model, full_disk):
    path = tmp_path / name
    path.write_bytes(b"what was there")
    with pytest.raises(RunError, match=rf"{name} cannot be written: File too large\.$"):
        WRITERS[name](path, model)
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_during_the_export_names_the_bundle(tmp_path, monkeypatch):
    def export(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    monkeypatch.setattr(outcome, "export_tflite", export)
    with pytest.raises(RunError, match=r"model.tflite cannot be written: No space left on dev"):
        outcome.export(None, DATASET, [], np.zeros(0, int), Run(tmp_path), {}, "float32")


def test_a_libraries_error_is_shortened(tmp_path):
    with (
        pytest.raises(RunError, match="cannot be written: unable to close file") as caught,
        writing(tmp_path / "x"),
    ):
        raise RuntimeError("unable to close\nfile " * 100)
    assert len(str(caught.value)) < 400
