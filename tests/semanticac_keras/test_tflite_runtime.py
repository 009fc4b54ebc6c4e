"""tflite-runtime computes an export as LiteRT does, or is kept from it.

It runs in an environment of its own, whose Python `SEMANTICAC_TFLITE_PYTHON` names.
"""

import os
import subprocess
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import pytest

from edge import BundleContract, StreamingClassifier, read_contract, write_bundle
from semanticac_keras import SemanticAC, export_tflite
from tests.clips import LABELS

PYTHON = os.environ.get("SEMANTICAC_TFLITE_PYTHON")
PROGRAM = """
import sys, numpy
from edge import BundleError, StreamingClassifier
try:
    classifier = StreamingClassifier(sys.argv[1])
except BundleError as error:
    sys.exit(str(error))
(window,) = classifier.push(numpy.load(sys.argv[2])) + classifier.flush()
print(*window.cosines)
"""
# The operator whose version tells a runtime that weights have a scale for each channel.
FULLY_CONNECTED = 9

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="SEMANTICAC_TFLITE_PYTHON names no Python"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def model(micro):
    """Random class vectors lie far apart; channels differ in size, as those of trained weights."""
    keras.utils.set_random_seed(3)
    model = SemanticAC.from_preset(micro, LABELS, texts="none")
    rng = np.random.default_rng(0)
    for variable in model.audio_tower.trainable_variables:
        if variable.name == "kernel":
            variable.assign(variable * rng.lognormal(size=variable.shape[-1]).astype(np.float32))
    model.audio_tower.encoder.mel_norm.moving_mean.assign([-30.0] * 16)
    model.audio_tower.encoder.mel_norm.moving_variance.assign([150.0] * 16)
    return model


def run_there(bundle: Path, sound: np.ndarray) -> tuple[list[float], str]:
    """Cosines of one window in tflite-runtime, and what came out on stderr."""
    recording = bundle.with_suffix(".npy")
    np.save(recording, sound)
    done = subprocess.run(
        [str(PYTHON), "-c", PROGRAM, str(bundle), str(recording)],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]
    return [float(cosine) for cosine in done.stdout.split()], "\n".join(lines)


def run_here(bundle: Path, sound: np.ndarray) -> np.ndarray:
    classifier = StreamingClassifier(bundle)
    (window,) = classifier.push(sound) + classifier.flush()
    return window.cosines


@pytest.mark.parametrize(
    ("quantization", "inputs"),
    [("float32", "log_mel"), ("float32", "waveform"), ("float16", "log_mel")],
)
def test_float_weights_are_computed_alike(model, clips, tmp_path, quantization, inputs):
    path, sound = tmp_path / "model.tflite", clips[0][0]
    export_tflite(model, path, quantization, inputs, clips[0])
    cosines, errors = run_there(path, sound)
    assert errors == ""
    np.testing.assert_allclose(cosines, run_here(path, sound), atol=1e-5)


def with_the_version_of_older_weights(bundle: Path) -> tuple[bytes, BundleContract]:
    """The bundle's graph as converters write it that do not raise the operator's version."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(bundle.read_bytes(), 0)
    (code,) = [code for code in model.operatorCodes if code.builtinCode == FULLY_CONNECTED]
    assert code.version == 12
    code.version = 9
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), read_contract(bundle)


def test_integer_weights_are_refused(model, clips, tmp_path):
    path, sound = tmp_path / "model.tflite", clips[0][0]
    export_tflite(model, path, "dynamic_int8", clips=clips[0])
    cosines, error = run_there(path, sound)
    assert cosines == []
    assert error.startswith(f"{path}: tflite-runtime 2.14.0 cannot load the graph: ")
    assert error.count("\n") == 0

    # It then loads them, and takes the first channel's scale for all; the probe tells.
    silent = tmp_path / "silent.tflite"
    write_bundle(silent, *with_the_version_of_older_weights(path))
    np.testing.assert_allclose(run_here(silent, sound), run_here(path, sound), atol=1e-6)
    cosines, error = run_there(silent, sound)
    assert cosines == []
    assert error.startswith(
        f"{silent}: tflite-runtime 2.14.0 computes the dynamic_int8 model wrong"
    )
    assert error.count("\n") == 0
