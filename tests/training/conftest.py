"""Generated inputs and results: sounds, a trained run, runs without training, and taggers."""

import io
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from tests.training.names import one_in_each_fold


class TrainedRun(NamedTuple):
    """A finished run of the micro preset. Tests must not change its files.

    Args:
        directory: run directory.
        status: exit status of `training.fit`.
        output: what it printed on stdout.
        losses: `training` of each call of `compute_loss`: one per trace where steps are traced.
    """

    directory: Path
    status: int
    output: str
    losses: list[bool]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of two classes of short recordings at 8 kHz: five of each, in five folds."""
    return _write_sounds(tmp_path / "sounds")


@pytest.fixture
def micro_arguments(micro: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that train the micro preset on the folder."""
    pytest.importorskip("tensorflow")
    from tests.micro import RECIPE
    from training.learning.recipes import RECIPES

    monkeypatch.setitem(RECIPES, micro, RECIPE)
    return _options(folder)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train without tracing, for a few steps."""
    from tests import micro

    micro.run_eagerly(monkeypatch)


@pytest.fixture
def byte_encoder(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a random encoder of bytes in place of a published sentence encoder."""
    import keras

    from semanticac_keras import ByteTokenizer, TextEncoder
    from training.learning import class_names

    def load(source: str):
        assert source == "encoder"
        keras.utils.set_random_seed(0)
        encoder = TextEncoder(258, 64, width=16, num_layers=1, num_heads=2, output_dim=8)
        return encoder, ByteTokenizer(64)

    monkeypatch.setattr(class_names, "load_sentence_encoder", load)
    return "encoder"


@pytest.fixture
def sigint() -> Iterator[None]:
    """Restore SIGINT, which a test run in the background ignores; processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def micro_options() -> list[str]:
    """Options of the `trained` run, besides `micro_arguments`."""
    return ["--targets", "prototype", "--ema-momentum", "0.5", "--mixup", "0.1"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, micro_options: list[str]) -> TrainedRun:
    """The micro preset, trained with `micro_options` and exported once per session."""
    pytest.importorskip("tensorflow")
    from semanticac_keras import SemanticAC
    from training import fit

    def record(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses.append(training)
        return compute_loss(self, x, y, y_pred, sample_weight, training)

    losses: list[bool] = []
    compute_loss = SemanticAC.compute_loss
    root, output = tmp_path_factory.mktemp("trained"), io.StringIO()
    arguments = [*_options(_write_sounds(root / "sounds")), *micro_options]
    with _registered() as patch, _quiet_conversion(), redirect_stdout(output):
        patch.setattr(SemanticAC, "compute_loss", record)
        status = fit.main([*arguments, "--out", str(root / "run")])
    return TrainedRun(root / "run", status, output.getvalue(), losses)


@pytest.fixture(scope="session")
def micro_costs() -> Mapping[str, object]:
    """Costs of the micro preset's audio encoder and heads, measured once per session."""
    pytest.importorskip("tensorflow")
    from tests import micro
    from training.runs.cost import tower_costs

    with _registered(), _quiet_conversion():
        return tower_costs(micro.NAME)


@pytest.fixture(scope="session")
def micro_program() -> tuple[str, ...]:
    """Command line of a `training.fit` in which the micro preset is registered."""
    return (sys.executable, "-u", "-m", "tests.training.micro_fit")


@pytest.fixture
def write_results(folder: Path) -> Callable[..., None]:
    """`write_results(jobs, accuracies)`: write the files of finished jobs without training.

    The folder has two clips per fold, so accuracies are 0, 0.5 or 1.
    """
    from training import fit
    from training.datasets import load_dataset
    from training.runs.evaluation import Evaluation
    from training.runs.run import write_json

    def write_results(jobs, accuracies: Sequence[float]) -> None:
        dataset = load_dataset("folder", folder, progress=False)
        for ((fold, _), job), accuracy in zip(jobs.items(), accuracies, strict=True):
            clips = [clip for clip in dataset.clips if clip.fold == fold]
            truth = np.array([clip.label for clip in clips])
            correct = np.arange(len(clips)) < accuracy * len(clips)
            predicted = np.eye(2, dtype=np.float32)[np.where(correct, truth, 1 - truth)]
            names, probabilities = tuple(clip.name for clip in clips), 0.6 * predicted + 0.2
            arguments = fit.parse(job.arguments)
            job.run.start(fit.settings(arguments, dataset, fold), clips=dataset.listing())
            Evaluation(dataset.labels, names, truth, probabilities).save(job.run.predictions)
            figures = {"accuracy": accuracy, "accuracy_last_epoch": accuracy}
            figures["training_seconds"] = 2.0
            sizes = {"training_clips_per_second": 4.0, "parameters": {"a": 3, "b": 4}}
            write_json(job.run.metrics, {**figures, **sizes})

    return write_results


def _write_sounds(directory: Path) -> Path:
    """Write the recordings of `folder`."""
    rng = np.random.default_rng(0)
    for name in ("low_hum", "hiss"):
        (directory / name).mkdir(parents=True)
        for file in one_in_each_fold(name):
            seconds = np.arange(6000) / 8000
            tone = 0.3 * np.sin(2 * np.pi * rng.uniform(150, 250) * seconds)
            noise = 0.1 * rng.standard_normal(seconds.size)
            sound = tone if name == "low_hum" else noise
            soundfile.write(directory / name / file, sound, 8000)
    return directory


def _options(folder: Path) -> list[str]:
    from tests import micro

    return ["--dataset", "folder", "--data-dir", str(folder), "--preset", micro.NAME]


@contextmanager
def _registered() -> Iterator[pytest.MonkeyPatch]:
    """Register the micro preset and its recipe, for fixtures that outlive a test."""
    from semanticac_keras.presets import PRESETS
    from tests import micro
    from training.learning.recipes import RECIPES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, micro.NAME, micro.PRESET)
        patch.setitem(RECIPES, micro.NAME, micro.RECIPE)
        yield patch


@contextmanager
def _quiet_conversion() -> Iterator[None]:
    """Ignore the converter's warnings, for fixtures that outlive a test."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tf.lite.*", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
