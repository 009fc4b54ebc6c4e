import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from semanticac_keras import ExportError, SemanticAC
from training.datasets import AudioDataset, Clip
from training.datasets.cache import Embeddings
from training.datasets.split import Split
from training.runs import outcome
from training.runs.run import Run

HISTORY = [
    {"epoch": 1.0, "val_accuracy": 0.5, "seconds": 8.0},
    {"epoch": 2.0, "val_accuracy": 0.75, "seconds": 2.0},
    {"epoch": 3.0, "val_accuracy": 0.25, "seconds": 2.0},
]


class Model:
    """A model that classifies the first clip right, and both with the selected weights."""

    selected = False

    def load_weights(self, path):
        assert path.read_text() == "weights of epoch 2"
        self.selected = True

    def predict(self, clips, verbose):
        assert len(clips) == 2
        return np.array([[1, 0], [0, 1]] if self.selected else [[1, 0], [1, 0]], np.float32)


@pytest.fixture
def dataset():
    """Two clips in each of three folds, one of each label."""
    clips = tuple(
        Clip(f"{fold}-{label}", label, fold, f"{fold}-{label}", None, 1.0)
        for fold in (1, 2, 3)
        for label in (0, 1)
    )
    return AudioDataset("demo", ("dog", "cat"), clips, "CC0", "", read=lambda *_: np.zeros(1))


@pytest.fixture
def run(tmp_path):
    """A run with the weights of its second epoch selected."""
    run = Run(tmp_path)
    run.write_history(HISTORY)
    run.selected(2).write_text("weights of epoch 2")
    return run


@pytest.fixture
def clips():
    """Waveforms of test clips at 8 kHz, each a constant."""
    return [np.full(8000, 0.01 * i, np.float32) for i in range(13)]


def test_speed_is_that_of_the_median_epoch():
    assert outcome.speed(HISTORY, 100) == {
        "epochs": 3,
        "training_seconds": 12.0,
        "training_clips_per_second": 50.0,
    }
    assert outcome.speed([], 100) == {"epochs": 0, "training_seconds": 0}


def test_without_a_validation_fold_the_last_epoch_counts(dataset, run):
    evaluation, figures = outcome.test(
        Model(), dataset, Split.of(dataset, 1), [None] * 2, run, None
    )
    assert figures == {"accuracy": 0.5, "accuracy_last_epoch": 0.5}
    assert evaluation.names == ("1-0", "1-1")
    assert evaluation.truth.tolist() == [0, 1]


def test_a_validation_fold_selects_the_epoch(dataset, run):
    model = Model()
    evaluation, figures = outcome.test(
        model, dataset, Split.of(dataset, 1, 2), [None] * 2, run, None
    )
    assert figures == {
        "accuracy": 1.0,
        "accuracy_last_epoch": 0.5,
        "accuracy_selected_on_validation": 1.0,
        "validation": {"fold": 2, "clips": 2, "epoch": 2, "accuracy": 0.75},
    }
    assert evaluation.accuracy == 1.0
    assert model.selected


def test_a_tagger_does_not_hear_the_clips_again(dataset, run):
    class OnEmbeddings:
        def predict(self, windows, verbose):
            return windows[:, 0]

    embeddings = Embeddings(
        np.array([[[0.9, 0.1]], [[0.1, 0.9]], [[0.5, 0.5]]], np.float32), np.array([0, 1, 1])
    )
    split = Split.of(dataset, 1)
    evaluation, _ = outcome.test(OnEmbeddings(), dataset, split, [None] * 2, run, embeddings)
    np.testing.assert_allclose(evaluation.probabilities, [[0.9, 0.1], [0.3, 0.7]], atol=1e-6)


def test_several_labels_a_clip_are_measured_by_average_precision(dataset, run):
    clips = [replace(clip, label=(0,) if clip.label else ()) for clip in dataset.clips]
    dogs = replace(dataset, labels=("dog",), clips=tuple(clips))
    model = SimpleNamespace(predict=lambda *_, **__: np.array([[0.6], [0.2]], np.float32))
    run.write_history([{"epoch": 1.0, "val_mean_average_precision": 0.5, "seconds": 1.0}])
    evaluation, figures = outcome.test(model, dogs, Split.of(dogs, 1), [None] * 2, run, None)
    assert figures == {"mean_average_precision": 0.5, "mean_average_precision_last_epoch": 0.5}
    assert evaluation.truth.tolist() == [[0], [1]]


def test_an_interrupt_in_the_first_epoch_selects_nothing(dataset, run):
    run.write_history([])
    _, figures = outcome.test(Model(), dataset, Split.of(dataset, 1, 2), [None] * 2, run, None)
    assert figures == {"accuracy": 0.5, "accuracy_last_epoch": 0.5}


def test_an_export_reports_its_parity(dataset, run, clips, monkeypatch):
    def export(model, path, quantization, **options):
        assert path == run.directory / "model.tflite"
        assert len(options["clips"]) == 13
        assert (options["training"], options["licence"]) == ({"fold": 1}, "CC0")
        return SimpleNamespace(parity={"clips": 13, "min_cosine": 1.0})

    monkeypatch.setattr(outcome, "export_tflite", export)
    sounds = replace(dataset, name="sounds")
    figures = outcome.export(None, sounds, range(13), clips, run, {"fold": 1}, "float16")
    assert figures == {"quantization": "float16", "clips": 13, "min_cosine": 1.0}


def test_a_failed_export_reports_the_reason(dataset, run, clips, monkeypatch):
    def export(*_, **__):
        raise ExportError("no converter")

    monkeypatch.setattr(outcome, "export_tflite", export)
    figures = outcome.export(None, dataset, range(13), clips, run, {}, "float32")
    assert figures == {"error": "no converter"}
    assert not (run.directory / "example.wav").exists()


@pytest.mark.slow
def test_the_demo_gets_an_example_recording(trained, dataset, run, clips, monkeypatch):
    def export(model, path, quantization, **options):
        shutil.copyfile(trained.directory / "model.tflite", path)
        return SimpleNamespace(parity={})

    monkeypatch.setattr(outcome, "export_tflite", export)
    outcome.export(None, dataset, np.arange(13) % 6, clips, run, {}, "float32")
    recording, rate_hz = soundfile.read(run.directory / "example.wav")
    assert rate_hz == 8000
    # Six clips, spread over the test.
    np.testing.assert_allclose(recording[::8000], 0.02 * np.arange(6), atol=1e-4)
    assert (run.directory / "example.png").read_bytes().startswith(b"\x89PNG")


def test_sizes_name_the_parts_and_the_papers_dimensions(micro):
    model = SemanticAC.from_preset(micro, ["dog", "cat"])
    sizes = outcome.sizes(model)
    assert (sizes["token_map"], sizes["embedding_dim"]) == ([4, 4, 16], 12)
    assert list(sizes["parameters"]) == ["audio encoder", "CSCM", "text encoder"]
    assert sizes["parameters"]["audio encoder"] == model.audio_tower.encoder.count_params() > 0
