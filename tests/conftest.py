"""Number of test processes, and fixtures of a model small enough to train in seconds."""

import importlib.util
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Number of processes for `-n auto`: three for two cores, because many tests only wait."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(2, 3 * (cores or 1) // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of training, the longest, so that no process is left alone with them."""
    items.sort(key=lambda item: "training" not in item.path.parts)


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the preset of `tests.micro`, registered while the test runs."""
    presets = pytest.importorskip("semanticac_keras.presets")
    from tests import micro

    monkeypatch.setitem(presets.PRESETS, micro.NAME, micro.PRESET)
    return micro.NAME


@pytest.fixture(scope="session")
def micro_bundle(tmp_path_factory: pytest.TempPathFactory):
    """A `tests.micro_bundle.MicroBundle`: one trained micro model and its cached exports.

    Skips the test where TensorFlow, which converts the exports, is not installed.
    """
    for package in ("keras", "tensorflow"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from tests.micro_bundle import train_micro

    return train_micro(tmp_path_factory.mktemp("micro_bundle"))


@pytest.fixture(scope="session")
def convert(tmp_path_factory) -> Callable[..., Path]:
    """`convert(serve, *shapes, dtype)`: write a function of TensorFlow tensors as a `.tflite`."""
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
def tiny_tagger() -> Path:
    """A tagger at 32 kHz: windows of 8000 samples to 3 scores, with an embedding of 16 values."""
    return Path(__file__).with_name("data") / "tiny_tagger.tflite"


@pytest.fixture(scope="session")
def tagger_weights() -> tuple[np.ndarray, np.ndarray]:
    """Weights of the tagger's two dense layers."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(32, 6)).astype(np.float32),
        rng.normal(size=(6, 5)).astype(np.float32),
    )


@pytest.fixture(scope="session")
def tagger(convert, tagger_weights) -> Path:
    """A tagger: windows of 512 samples to 5 scores, with an embedding of 6 values."""
    tf = pytest.importorskip("tensorflow")
    to_hidden, to_scores = tagger_weights

    def serve(waveform):
        hidden = tf.tanh(tf.reshape(waveform, (16, 32)) @ to_hidden)
        return tf.sigmoid(tf.reduce_mean(hidden, axis=0, keepdims=True) @ to_scores)

    return convert(serve, (512,))
