"""A folder of sounds to train on, and small taggers as `.tflite` files, all made here."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of short recordings at 8 kHz, five of each, as files: five folds."""
    rng = np.random.default_rng(0)
    for name in ("low_hum", "hiss"):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for i in range(5):
            seconds = np.arange(6000) / 8000
            tone = 0.3 * np.sin(2 * np.pi * rng.uniform(150, 250) * seconds)
            noise = 0.1 * rng.standard_normal(seconds.size)
            sound = tone if name == "low_hum" else noise
            soundfile.write(tmp_path / "sounds" / name / f"{i}.wav", sound, 8000)
    return tmp_path / "sounds"


@pytest.fixture
def micro_arguments(micro: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that train the micro preset on the folder."""
    pytest.importorskip("tensorflow")
    from tests.micro import RECIPE
    from training.learning.recipes import RECIPES

    monkeypatch.setitem(RECIPES, micro, RECIPE)
    return ["--dataset", "folder", "--data-dir", str(folder), "--preset", micro]


@pytest.fixture(scope="session")
def micro_program() -> tuple[str, ...]:
    """The command line of a `training.fit` that knows the micro preset."""
    return (sys.executable, "-u", "-m", "tests.training.micro_fit")


@pytest.fixture
def finish(folder: Path) -> Callable[..., None]:
    """`finish(jobs, shares)`: as if these jobs had run, and were right on such shares of clips.

    The folder has two clips in a fold, so that shares are 0, 0.5 or 1.
    """
    from training import fit
    from training.datasets import load_dataset
    from training.runs.evaluation import Evaluation
    from training.runs.run import write_json

    def finish(jobs, shares: Sequence[float]) -> None:
        dataset = load_dataset("folder", folder, progress=False)
        for ((fold, _), job), share in zip(jobs.items(), shares, strict=True):
            clips = [clip for clip in dataset.clips if clip.fold == fold]
            truth = np.array([clip.label for clip in clips])
            right = np.arange(len(clips)) < share * len(clips)
            given = np.eye(2, dtype=np.float32)[np.where(right, truth, 1 - truth)]
            names = tuple(clip.name for clip in clips)
            arguments = fit.parse(job.arguments)
            job.run.start(fit.settings(arguments, dataset, fold))
            Evaluation(dataset.labels, names, truth, 0.6 * given + 0.2).save(job.run.predictions)
            figures = {"accuracy": share, "accuracy_last_epoch": share, "training_seconds": 2.0}
            sizes = {"training_clips_per_second": 4.0, "parameters": {"a": 3, "b": 4}}
            write_json(job.run.metrics, {**figures, **sizes})

    return finish


@pytest.fixture(scope="session")
def convert(tmp_path_factory) -> Callable[..., Path]:
    """`convert(serve, *shapes, dtype)`: a file whose graph is a function of TensorFlow tensors."""
    tf = pytest.importorskip("tensorflow")

    def convert(serve, *shapes: tuple[int | None, ...], dtype: str = "float32") -> Path:
        function = tf.function(serve, input_signature=[tf.TensorSpec(s, dtype) for s in shapes])
        with warnings.catch_warnings(action="ignore"):
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [function.get_concrete_function()], tf.Module()
            )
            content = converter.convert()
        path = tmp_path_factory.mktemp("tagger") / "tagger.tflite"
        path.write_bytes(content)
        return path

    return convert


@pytest.fixture(scope="session")
def tagger_weights() -> tuple[np.ndarray, np.ndarray]:
    """Of the tagger's two dense layers."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(32, 6)).astype(np.float32),
        rng.normal(size=(6, 5)).astype(np.float32),
    )


@pytest.fixture(scope="session")
def tagger(convert, tagger_weights) -> Path:
    """Windows of 512 samples to 5 independent scores; an embedding of 6 before the last layer."""
    tf = pytest.importorskip("tensorflow")
    to_hidden, to_scores = tagger_weights

    def serve(waveform):
        hidden = tf.tanh(tf.reshape(waveform, (16, 32)) @ to_hidden)
        return tf.sigmoid(tf.reduce_mean(hidden, axis=0, keepdims=True) @ to_scores)

    return convert(serve, (512,))
