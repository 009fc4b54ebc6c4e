import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import soxr
from keras import ops

from edge import StreamingClassifier, read_contract
from semanticac_keras import ExportError, SemanticAC, export, export_tflite
from semanticac_keras.heads import head_from_preset
from tests.clips import LABELS

pytestmark = [
    # TensorFlow's converter announces its own successor.
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def run_eagerly(model):
    """Do not trace predictions: an export takes only one or two."""
    model.run_eagerly = model.audio_tower.run_eagerly = keras.backend.backend() == "tensorflow"


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["log_mel", "waveform"])
@pytest.mark.parametrize("quantization", ["float32", "float16", "dynamic_int8"])
def test_edge_runtime_agrees_with_keras(micro_bundle, quantization, inputs):
    model, waveforms = micro_bundle.model, micro_bundle.waveforms
    path, contract = micro_bundle.export(quantization, inputs)
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
    [result] = classifier.push(waveforms[0]) + classifier.flush()
    tolerance = {"float32": 1e-4, "float16": 5e-3, "dynamic_int8": 0.05}[quantization]
    expected = model.predict(waveforms[:1], verbose=0)[0]
    np.testing.assert_allclose(result.scores, expected, atol=tolerance)
    assert result.embedding.shape == (12,)
    labels = keras.ops.convert_to_numpy(model.label_embeddings)
    cosines = labels @ model.encode_audio(waveforms[:1])[0]
    np.testing.assert_allclose(result.cosines, cosines, atol=tolerance)
    assert contract.parity["max_cosine_difference"] <= tolerance


def contract_json(path):
    """The contract as any zip tool reads it."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("semanticac.json"))


@pytest.mark.slow
def test_zip_tools_can_read_the_contract(micro_bundle):
    path, _ = micro_bundle.export()
    values = contract_json(path)
    assert values["labels"] == list(LABELS)
    assert values["front_end"]["sample_rate_hz"] == 8000
    logit_scale = keras.ops.convert_to_numpy(micro_bundle.model.logit_scale)
    assert values["logit_scale"] == pytest.approx(float(np.exp(float(logit_scale))), rel=1e-5)


@pytest.mark.slow
def test_mixed_precision_model_is_exported_in_float32(micro, clips, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = SemanticAC.from_preset(micro, LABELS)
    finally:
        keras.config.set_dtype_policy(before)
    run_eagerly(model)
    contract = export_tflite(model, tmp_path / "m.tflite", clips=clips[0])
    assert contract.parity["max_score_difference"] <= 1e-4
    # bfloat16 keeps 8 bits of each product, so the model only approximates its float32 form, by far
    # more than the rounding of float32.
    classifier = StreamingClassifier(tmp_path / "m.tflite")
    [result] = classifier.push(clips[0][0]) + classifier.flush()
    difference = np.abs(result.scores - model.predict(clips[0][:1], verbose=0)[0]).max()
    assert 1e-5 < difference < 0.1


@pytest.mark.slow
def test_independent_scores_agree_everywhere(tiny_classifier, tmp_path):
    model, clips = tiny_classifier(head_from_preset("pooled", "tiny"), targets="sigmoid")
    model.logit_bias.assign(-1.0)
    path = tmp_path / "m.tflite"
    contract = export_tflite(model, path, clips=clips)
    assert not contract.exclusive
    assert contract.logit_bias == -1.0
    assert contract.parity["delegate_partitions"] == 1
    assert contract.parity["same_label_share"] == 1.0
    expected = model.predict(clips, verbose=0)
    logits = (
        contract.logit_scale
        * model.encode_audio(clips)
        @ ops.convert_to_numpy(model.label_embeddings).T
    )
    np.testing.assert_allclose(expected, 1 / (1 + np.exp(1 - logits)), atol=1e-5)
    classifier = StreamingClassifier(path)
    streamed = [(classifier.push(clip) + classifier.flush())[0].scores for clip in clips]
    np.testing.assert_allclose(np.stack(streamed), expected, atol=1e-5)


@pytest.fixture(scope="module")
def small():
    """An untrained model of the preset `small`; shared, so do not change it."""
    keras.utils.set_random_seed(0)
    model = SemanticAC.from_preset("small", LABELS)
    run_eagerly(model)
    return model


@pytest.mark.slow
@pytest.mark.skipif(
    "SEMANTICAC_ESC50_DIR" not in os.environ, reason="SEMANTICAC_ESC50_DIR is not set"
)
@pytest.mark.parametrize("inputs", ["log_mel", "waveform"])
def test_edge_runtime_agrees_on_real_recordings(small, inputs, tmp_path):
    paths = sorted(Path(os.environ["SEMANTICAC_ESC50_DIR"]).glob("audio/*.wav"))[::40]
    recordings = [soxr.resample(*soundfile.read(path, dtype="float32"), 32_000) for path in paths]
    contract = export_tflite(small, tmp_path / "m.tflite", inputs=inputs, clips=recordings)
    assert contract.parity["clips"] == len(paths) >= 10
    assert contract.parity["max_score_difference"] <= 1e-4


@pytest.mark.slow
def test_wrong_conversion_is_rejected(micro_bundle, micro, tmp_path, monkeypatch):
    """The graph of another model must not replace the file."""
    path = tmp_path / "m.tflite"
    path.write_bytes(b"what was there")
    other, _ = micro_bundle.export()
    graph = other.read_bytes()[: contract_json(other)["model_bytes"]]
    monkeypatch.setattr(export, "_convert", lambda *_: graph)
    model = SemanticAC.from_preset(micro, LABELS)
    run_eagerly(model)
    with pytest.raises(ExportError, match="disagrees with the Keras model"):
        export_tflite(model, path, clips=micro_bundle.waveforms)
    assert path.read_bytes() == b"what was there"


def test_unknown_options_are_rejected(tmp_path):
    """Options are checked before the model is used."""
    with pytest.raises(ValueError, match="`quantization` must be one of"):
        export_tflite(None, tmp_path / "m.tflite", "int8")
    with pytest.raises(ValueError, match="`inputs` must be one of"):
        export_tflite(None, tmp_path / "m.tflite", inputs="mel")
