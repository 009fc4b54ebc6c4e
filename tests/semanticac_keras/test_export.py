import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import soxr

from edge import StreamingClassifier, read_contract
from semanticac_keras import ExportError, SemanticAC, export, export_tflite
from tests.clips import LABELS

# TensorFlow's converter warns of its own future; the warning is not about our code.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def model(micro):
    keras.utils.set_random_seed(3)
    model = SemanticAC.from_preset(micro, LABELS)
    # As after training: the normalisation has seen decibels.
    model.audio_tower.encoder.mel_norm.moving_mean.assign([-30.0] * 16)
    model.audio_tower.encoder.mel_norm.moving_variance.assign([150.0] * 16)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["log_mel", "waveform"])
@pytest.mark.parametrize("quantization", ["float32", "float16", "dynamic_int8"])
def test_the_device_agrees_with_keras(model, clips, tmp_path, quantization, inputs):
    path = tmp_path / "m.tflite"
    contract = export_tflite(
        model, path, quantization, inputs, clips[0], training={"dataset": "x"}, licence="CC0"
    )
    assert read_contract(path) == contract
    assert contract.parity["delegate_partitions"] == 1
    assert contract.parity["clips"] == 24
    if quantization == "float32":
        assert contract.parity["max_score_difference"] <= 1e-4
    assert (contract.labels, contract.prompts) == (model.labels, model.prompts)
    assert (contract.inputs, contract.training, contract.licence) == (
        inputs,
        {"dataset": "x"},
        "CC0",
    )

    classifier = StreamingClassifier(path)
    [result] = classifier.push(clips[0][0]) + classifier.flush()
    tolerance = {"float32": 1e-4, "float16": 5e-3, "dynamic_int8": 0.05}[quantization]
    expected = model.predict(clips[0][:1], verbose=0)[0]
    np.testing.assert_allclose(result.scores, expected, atol=tolerance)
    assert result.embedding.shape == (12,)
    labels = keras.ops.convert_to_numpy(model.label_embeddings)
    cosines = labels @ model.encode_audio(clips[0][:1])[0]
    np.testing.assert_allclose(result.cosines, cosines, atol=tolerance)
    assert contract.parity["max_cosine_difference"] <= tolerance


def test_any_zip_tool_reads_the_contract(model, tmp_path):
    export_tflite(model, tmp_path / "m.tflite")
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        values = json.loads(archive.read("semanticac.json"))
    assert values["labels"] == list(LABELS)
    assert values["front_end"]["sample_rate_hz"] == 8000
    assert values["logit_scale"] == pytest.approx(
        float(np.exp(float(keras.ops.convert_to_numpy(model.logit_scale)))), rel=1e-5
    )


def test_a_model_in_half_precision_is_exported_in_full(micro, clips, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = SemanticAC.from_preset(micro, LABELS)
    finally:
        keras.config.set_dtype_policy(before)
    contract = export_tflite(model, tmp_path / "m.tflite", clips=clips[0])
    assert contract.parity["max_score_difference"] <= 1e-4
    # bfloat16 keeps 8 bits of each product, so the model itself is only near its float32 form.
    classifier = StreamingClassifier(tmp_path / "m.tflite")
    [result] = classifier.push(clips[0][0]) + classifier.flush()
    difference = np.abs(result.scores - model.predict(clips[0][:1], verbose=0)[0]).max()
    assert 1e-4 < difference < 0.1


@pytest.mark.slow
@pytest.mark.skipif(
    "SEMANTICAC_ESC50_DIR" not in os.environ, reason="SEMANTICAC_ESC50_DIR names no ESC-50"
)
@pytest.mark.parametrize("inputs", ["log_mel", "waveform"])
def test_agrees_on_real_recordings(inputs, tmp_path):
    keras.utils.set_random_seed(0)
    model = SemanticAC.from_preset("small", LABELS)
    paths = sorted(Path(os.environ["SEMANTICAC_ESC50_DIR"]).glob("audio/*.wav"))[::40]
    recordings = [soxr.resample(*soundfile.read(path, dtype="float32"), 32_000) for path in paths]
    contract = export_tflite(model, tmp_path / "m.tflite", inputs=inputs, clips=recordings)
    assert contract.parity["clips"] == len(paths) >= 10
    assert contract.parity["max_score_difference"] <= 1e-4


def test_a_wrong_conversion_is_refused(model, micro, tmp_path, monkeypatch, clips):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"what was there")
    other = export._convert(SemanticAC.from_preset(micro, LABELS), "float32", "log_mel")
    monkeypatch.setattr(export, "_convert", lambda *_: other)
    with pytest.raises(ExportError, match="disagrees with the Keras model"):
        export_tflite(model, path, clips=clips[0])
    assert path.read_bytes() == b"what was there"


def test_refuses_unknown_forms(model, tmp_path):
    with pytest.raises(ValueError, match="`quantization` must be one of"):
        export_tflite(model, tmp_path / "m.tflite", "int8")
    with pytest.raises(ValueError, match="`inputs` must be one of"):
        export_tflite(model, tmp_path / "m.tflite", inputs="mel")
