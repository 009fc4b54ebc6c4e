"""Fixtures: sounds, and bundles of the tiny graphs in tests/data."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest

from edge import BundleContract, BundleError, FrontEnd, write_bundle
from edge.inference.bundle import Inputs, Probe, TaggerContract
from edge.inference.interpreter import measure_probe
from edge.types import FloatArray

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def make_sound() -> Callable[[int, int], FloatArray]:
    """`make_sound(samples, seed)`: noise, three tones and decaying clicks, at 32 kHz."""

    @lru_cache(maxsize=64)
    def cached(samples: int, seed: int) -> FloatArray:
        rng = np.random.default_rng(seed)
        seconds = np.arange(samples) / 32_000
        sound = 0.01 * rng.normal(size=samples)
        for frequency_hz in rng.uniform(100, 12_000, 3):
            sound += 0.1 * np.sin(2 * np.pi * frequency_hz * seconds)
        since_click = seconds % rng.uniform(0.2, 0.6)
        sound += 0.3 * np.exp(-since_click / 0.03) * rng.normal(size=samples)
        return sound.astype(np.float32)

    return lambda samples, seed=0: cached(samples, seed).copy()


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[str], bytes]:
    """`tiny_model(inputs)`: the graph without contract, `"independent"` or `"tagger"`."""
    return lambda inputs: (DATA / f"tiny_{inputs}.tflite").read_bytes()


@pytest.fixture(scope="session")
def make_contract(tiny_model) -> Callable[..., BundleContract]:
    """`make_contract(inputs, labels, …)`: matches the tiny graphs."""

    @cache
    def make(
        inputs: Inputs = "log_mel",
        labels: tuple[str, ...] = ("rain", "sea waves", "wind", "dog", "Glocke ♪"),
        embedding_dim: int = 8,
        window_seconds: float = 1.0,
        exclusive: bool = True,
    ) -> BundleContract:
        graph = inputs if exclusive else "independent"
        content = tiny_model("tagger") if inputs == "embeddings" else None
        contract = BundleContract(
            front_end=FrontEnd(window_seconds=window_seconds),
            inputs=inputs,
            labels=labels,
            prompts=tuple(f"a sound of {label}" for label in labels),
            embedding_dim=embedding_dim,
            logit_scale=1 / 0.07,
            quantization="float32",
            parity={"scores": 1e-6},
            training={"dataset": "none"},
            licence="Apache-2.0",
            tagger=content and tiny_tagger_contract(content),
            exclusive=exclusive,
            logit_bias=0.0 if exclusive else -1.5,
        )
        try:
            probe = measure_probe(tiny_model(graph), contract, content)
        except BundleError:  # a contract that does not match the graph
            probe = Probe(scores=(0.0,) * len(labels), cosines=(0.0,) * len(labels))
        return replace(contract, probe=probe)

    return make


@pytest.fixture(scope="session", params=["log_mel", "waveform", "embeddings"])
def bundle(request, tmp_path_factory, tiny_model, make_contract) -> Path:
    """A complete bundle of each kind."""
    path = tmp_path_factory.mktemp("bundle") / f"{request.param}.tflite"
    tagger = tiny_model("tagger") if request.param == "embeddings" else None
    write_bundle(path, tiny_model(request.param), make_contract(request.param), tagger)
    return path


@pytest.fixture(scope="session")
def tagger_bundle(tmp_path_factory, tiny_model, make_contract) -> Path:
    """A complete bundle with a tagger."""
    path = tmp_path_factory.mktemp("bundle") / "tagger.tflite"
    contract = make_contract("embeddings")
    write_bundle(path, tiny_model("embeddings"), contract, tiny_model("tagger"))
    return path


@pytest.fixture(scope="session")
def independent_bundle(tmp_path_factory, tiny_model, make_contract) -> Path:
    """A complete log-mel bundle with independent scores."""
    path = tmp_path_factory.mktemp("bundle") / "independent.tflite"
    write_bundle(path, tiny_model("independent"), make_contract(exclusive=False))
    return path


def tiny_tagger_contract(content: bytes) -> TaggerContract:
    """Contract of `tiny_tagger.tflite`: windows of 0.25 s, half overlapping."""
    return TaggerContract(
        name="tiny.tflite",
        sha256=hashlib.sha256(content).hexdigest(),
        window_samples=8000,
        hop_samples=4000,
        embedding_dim=16,
        output=13,
    )


@pytest.fixture(scope="session")
def log_mel_bundle(tmp_path_factory, tiny_model, make_contract) -> Path:
    """A complete log-mel bundle."""
    path = tmp_path_factory.mktemp("bundle") / "model.tflite"
    write_bundle(path, tiny_model("log_mel"), make_contract())
    return path
