"""tflite-runtime reproduces an export's LiteRT output, or the bundle is rejected.

tflite-runtime runs in its own environment: `SEMANTICAC_TFLITE_PYTHON` is the path of its Python.
"""

import os
import shutil
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
# Version 12 of this operator has per-channel scales of the weights.
FULLY_CONNECTED = 9

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="SEMANTICAC_TFLITE_PYTHON is not set"),
]


@pytest.fixture
def distinct_classes(micro):
    """A model in which wrong channel scales change the cosines.

    Random class vectors are far apart, and channels differ in scale, as in trained models. The
    classes of `micro_bundle` are too close for this.
    """
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
    """Cosines of one window in tflite-runtime, and its stderr."""
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
def test_float_weights_give_the_same_cosines(micro_bundle, tmp_path, quantization, inputs):
    path, sound = tmp_path / "model.tflite", micro_bundle.waveforms[0]
    shutil.copy(micro_bundle.export(quantization, inputs)[0], path)
    cosines, errors = run_there(path, sound)
    assert errors == ""
    np.testing.assert_allclose(cosines, run_here(path, sound), atol=1e-5)


def with_per_tensor_version(bundle: Path) -> tuple[bytes, BundleContract]:
    """The bundle's graph as older converters write it, with per-channel scales but version 9."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(bundle.read_bytes(), 0)
    (code,) = [code for code in model.operatorCodes if code.builtinCode == FULLY_CONNECTED]
    assert code.version == 12
    code.version = 9
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), read_contract(bundle)


@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_integer_weights_are_rejected(distinct_classes, clips, tmp_path):
    path, sound = tmp_path / "model.tflite", clips[0][0]
    export_tflite(distinct_classes, path, "dynamic_int8", clips=clips[0])
    cosines, error = run_there(path, sound)
    assert cosines == []
    assert error.startswith(f"{path}: tflite-runtime 2.14.0 cannot load the graph: ")
    assert error.count("\n") == 0

    # At version 9, it loads them but uses the first channel's scale for all: the probe detects it.
    silent = tmp_path / "silent.tflite"
    write_bundle(silent, *with_per_tensor_version(path))
    np.testing.assert_allclose(run_here(silent, sound), run_here(path, sound), atol=1e-6)
    cosines, error = run_there(silent, sound)
    assert cosines == []
    assert error.startswith(
        f"{silent}: tflite-runtime 2.14.0 computes the dynamic_int8 model wrong"
    )
    assert error.count("\n") == 0
