"""A graph runs only if it matches its contract and reproduces its probe output."""

import importlib
import re
from dataclasses import replace

import numpy as np
import pytest

from edge import BundleError, Interpreter, write_bundle
from edge.inference.bundle import Probe
from edge.inference.probe import probe_input
from edge.inference.tagger import TaggerGraph


@pytest.fixture(scope="module")
def litert():
    """The interpreter module of the installed runtime."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter")
    except ModuleNotFoundError:
        return pytest.importorskip("tflite_runtime.interpreter")


def test_run_returns_float32_copies(bundle):
    interpreter = Interpreter(bundle)
    rng = np.random.default_rng(0)
    shape = interpreter.contract.input_shape[1:]
    first = interpreter.run(rng.normal(size=shape).astype(np.float32))
    kept = [values.copy() for values in first]
    interpreter.run(rng.normal(size=shape).astype(np.float32))
    for values, copy, size in zip(first, kept, (5, 5, 8), strict=True):
        assert values.shape == (size,)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, copy)
    logits = interpreter.contract.logit_scale * first.cosines
    scores = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(first.scores, scores, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(first.embedding), 1.0, atol=1e-6)


def test_independent_scores_are_the_sigmoid_of_each_cosine(independent_bundle):
    interpreter = Interpreter(independent_bundle)
    inputs = np.random.default_rng(0).normal(-50, 30, size=(101, 64)).astype(np.float32)
    prediction = interpreter.run(inputs)
    contract = interpreter.contract
    logits = contract.logit_scale * prediction.cosines + contract.logit_bias
    np.testing.assert_allclose(prediction.scores, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert prediction.scores.sum() != pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("exclusive", [True, False])
def test_scores_may_differ_as_far_as_the_cosines_explain(
    tmp_path, tiny_model, make_contract, exclusive
):
    path, contract = tmp_path / "m.tflite", make_contract(exclusive=exclusive)
    limit = 1e-3 / 0.07 / (2 if exclusive else 4)
    for share, right in ((0.9, True), (1.1, False)):
        scores = (contract.probe.scores[0] + share * limit, *contract.probe.scores[1:])
        probe = replace(contract.probe, scores=scores)
        model = tiny_model("log_mel" if exclusive else "independent")
        write_bundle(path, model, replace(contract, probe=probe))
        if right:
            Interpreter(path)
            continue
        with pytest.raises(BundleError, match=rf"scores by \S+ \(limit {limit:.2g}\)"):
            Interpreter(path)


def test_run_matches_the_signature_runner(bundle, litert):
    """The direct call uses the same tensors as LiteRT's signature runner."""
    interpreter = Interpreter(bundle, num_threads=2)
    inputs = np.random.default_rng(1).normal(size=interpreter.contract.input_shape)
    inputs = inputs.astype(np.float32)
    reference = litert.Interpreter(model_path=str(bundle)).get_signature_runner("serving_default")
    expected = reference(inputs=inputs)
    for name, values in interpreter.run(inputs[0])._asdict().items():
        np.testing.assert_allclose(values, expected[name][0], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": ("rain", "wind")},
            "`labels` must match the bundle's 5 outputs. Received: 2 labels. Re-export the bundle.",
        ),
        (
            {"embedding_dim": 9},
            "`embedding_dim` must match the bundle's 8 outputs. Received: 9. Re-export the bundle.",
        ),
        (
            {"window_seconds": 2.0},
            "`inputs` must have the contract's shape (1, 201, 64). Received: (1, 101, 64).",
        ),
        (
            {"inputs": "waveform"},
            "`inputs` must have the contract's shape (1, 32000). Received: (1, 101, 64).",
        ),
    ],
)
def test_contracts_that_do_not_match_the_graph_are_refused(
    tmp_path, tiny_model, make_contract, changes, message
):
    path = tmp_path / "model.tflite"
    write_bundle(path, tiny_model("log_mel"), make_contract(**changes))
    with pytest.raises(BundleError, match=re.escape(f"{path}: {message}")):
        Interpreter(path)


@pytest.mark.parametrize(
    ("name", "other"),
    [(b"\0cosines\0", b"\0sinuses\0"), (b"\0serving_default\0", b"\0serving_another\0")],
)
def test_graphs_without_the_expected_signature_are_refused(
    tmp_path, tiny_model, make_contract, name, other
):
    model = tiny_model("log_mel")
    assert name in model
    assert len(name) == len(other)
    path = tmp_path / "model.tflite"
    write_bundle(path, model.replace(name, other), make_contract())
    with pytest.raises(BundleError, match="must have one signature `serving_default`"):
        Interpreter(path)


def test_a_graph_that_litert_cannot_load_is_refused(litert, tmp_path, tiny_model, make_contract):
    if litert.__name__.startswith("tflite_runtime"):
        pytest.skip("it crashes on invalid flatbuffers, which the checksum normally excludes")
    path = tmp_path / "model.tflite"
    write_bundle(path, tiny_model("log_mel")[:64], make_contract())
    with pytest.raises(BundleError, match=f"{path}: .* cannot load the graph: "):
        Interpreter(path)


@pytest.mark.parametrize(
    ("quantization", "allowed"), [("float32", 9e-4), ("float16", 9e-3), ("dynamic_int8", 0.019)]
)
def test_bundles_that_are_computed_wrongly_are_refused(
    bundle, tmp_path, tiny_model, make_contract, quantization, allowed
):
    """Differences up to the limit are accepted, in any cosine; slightly larger ones are not."""
    path, inputs = tmp_path / "model.tflite", bundle.stem
    contract = replace(make_contract(inputs), quantization=quantization)
    tagger = tiny_model("tagger") if contract.tagger else None
    cosines = contract.probe.cosines
    for label in range(5):
        for difference, right in ((allowed, True), (1.2 * allowed, False)):
            altered = [*cosines[:label], cosines[label] + difference, *cosines[label + 1 :]]
            probe = Probe(contract.probe.scores, tuple(altered))
            write_bundle(path, tiny_model(inputs), replace(contract, probe=probe), tagger)
            if right:
                Interpreter(path)
                continue
            message = (
                rf"{re.escape(str(path))}: \S+ \S+ computes the {quantization} model wrongly: for "
                rf"the bundle's probe, cosines differ by {difference:.2g} from those at export "
                r"\(limit \S+\), scores by .*\. Use another runtime, or export with another .*\."
            )
            with pytest.raises(BundleError, match=rf"\A{message}\Z"):
                Interpreter(path)


@pytest.mark.parametrize("scores", [(0.2,) * 5, (float("nan"),) * 5])
def test_wrong_scores_alone_are_refused(tmp_path, tiny_model, make_contract, scores):
    path, contract = tmp_path / "model.tflite", make_contract()
    probe = Probe(scores, contract.probe.cosines)
    write_bundle(path, tiny_model("log_mel"), replace(contract, probe=probe))
    with pytest.raises(BundleError, match=r"cosines differ by .*e-.* scores by"):
        Interpreter(path)


def test_measured_probes_match_the_model_output(bundle):
    interpreter = Interpreter(bundle)
    output = interpreter.run(probe_input(interpreter.contract, interpreter.tagger))
    np.testing.assert_allclose(interpreter.contract.probe.scores, output.scores, atol=1e-6)
    np.testing.assert_allclose(interpreter.contract.probe.cosines, output.cosines, atol=1e-6)


@pytest.mark.parametrize(
    "inputs", [np.zeros((64, 101), np.float32), np.zeros((1, 101, 64), np.float32), np.eye(101, 64)]
)
def test_wrong_inputs_are_refused(log_mel_bundle, inputs):
    with pytest.raises(ValueError, match=re.escape("`inputs` must be float32 (101, 64)")):
        Interpreter(log_mel_bundle).run(inputs)


def test_nan_scores_are_refused(log_mel_bundle, litert):
    if litert.__name__.startswith("tflite_runtime"):
        pytest.skip("its tanh turns NaN into numbers")
    with pytest.raises(RuntimeError, match="NaN"):
        Interpreter(log_mel_bundle).run(np.full((101, 64), np.nan, np.float32))


def test_num_threads_below_one_are_refused(log_mel_bundle):
    with pytest.raises(ValueError, match=r"`num_threads` must be at least 1\. Received: 0"):
        Interpreter(log_mel_bundle, num_threads=0)


def test_a_missing_runtime_is_one_clear_error(log_mel_bundle, monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(name, name=name.partition(".")[0])

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(RuntimeError, match=r"installed\. Install one: pip install ai-edge-litert"):
        Interpreter(log_mel_bundle)


def test_a_runtime_that_cannot_be_imported_is_named(log_mel_bundle, monkeypatch):
    def fail(name):
        raise ImportError("numpy.core.multiarray failed\nto import")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(
        RuntimeError, match=r"tflite-runtime cannot be imported: numpy\S+ failed to import\."
    ):
        Interpreter(log_mel_bundle)


def test_a_runtime_for_another_numpy_is_named(log_mel_bundle, litert, monkeypatch):
    class OfNumpy1:
        def __init__(self, **options):
            raise SystemError("returned a result with an exception set")

    monkeypatch.setattr(litert, "Interpreter", OfNumpy1)
    with pytest.raises(RuntimeError, match=r"does not work with numpy \S+: pip install 'numpy<2'"):
        Interpreter(log_mel_bundle)


def test_a_tagger_of_another_size_is_refused(tiny_model, make_contract):
    contract = make_contract("embeddings").tagger
    with pytest.raises(BundleError, match=r"must have 17 values. Received: 16"):
        TaggerGraph(tiny_model("tagger"), replace(contract, embedding_dim=17))
