"""A tagger's tower: sound in, as with an `AudioTower`; the tagger runs on the host."""

import hashlib
import zipfile

import keras
import numpy as np
import pytest
import soundfile

from edge import StreamingClassifier, read_contract
from semanticac_keras import (
    CSCM,
    ClassIndex,
    ClassVectors,
    EmbeddingMap,
    MeanPooling,
    SemanticAC,
    Tagger,
    TaggerTower,
    export_tflite,
)
from tests.clips import LABELS, make_clips

RATE_HZ, WINDOW = 32_000, 32_000


@pytest.fixture(scope="module")
def model(tiny_tagger):
    """An untrained model on windows of a second, which hold two of the tagger's."""
    keras.utils.set_random_seed(0)
    head = CSCM(output_dim=12, hidden_dim=8, reduction=4)
    tower = TaggerTower.from_tagger(
        Tagger(tiny_tagger, RATE_HZ), head, window_seconds=1.0, dropout=0.2, name="audio"
    )
    vectors = ClassVectors(len(LABELS), 12)
    model = SemanticAC(tower, vectors, ClassIndex(LABELS), LABELS, prompt="{label}")
    model.compile(keras.optimizers.SGD(0.05), metrics=["accuracy"], run_eagerly=_eager())
    tower.run_eagerly = _eager()
    return model


@pytest.fixture(scope="module")
def sounds():
    return make_clips(6, WINDOW, RATE_HZ)


def _eager():
    return keras.backend.backend() == "tensorflow"


def predict(model, x):
    return model.predict(x, verbose=0)


def test_embeddings_are_the_tagger_s_on_its_grid(model, sounds, tiny_tagger):
    tower, tagger = model.audio_tower, Tagger(tiny_tagger, RATE_HZ)
    assert (tower.contract.window_samples, tower.contract.hop_samples) == (8000, 16_000)
    embeddings = tower.inputs_of(sounds[0])
    assert embeddings.shape == (6, 2, 16)
    for clip, rows in zip(sounds[0], embeddings, strict=True):
        expected = np.concatenate(
            [tagger.hear(clip[i : i + 8000], RATE_HZ)[1] for i in (0, 16_000)]
        )
        np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_waveforms_files_and_embeddings_are_the_same_input(model, sounds, tmp_path):
    clips = sounds[0]
    expected = predict(model, model.audio_tower.inputs_of(clips))
    np.testing.assert_allclose(predict(model, clips), expected, atol=1e-6)
    soundfile.write(tmp_path / "a.wav", clips[0], RATE_HZ, subtype="FLOAT")
    mixed = [tmp_path / "a.wav", np.concatenate([clips[1], clips[2]]), clips[3]]
    found = predict(model, mixed)
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 3]], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1:3].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(model.encode_audio(mixed), axis=1), 1, atol=1e-5)
    labels = sounds[1]
    np.testing.assert_allclose(
        model.evaluate(clips, labels, verbose=0),
        model.evaluate(model.audio_tower.inputs_of(clips), labels, verbose=0),
        rtol=1e-5,
    )


def test_fit_trains_the_head_on_waveforms(model, sounds):
    tower = model.audio_tower
    encoder, head = (
        type(part).from_config(part.get_config()) for part in (tower.encoder, tower.head)
    )
    vectors = ClassVectors(len(LABELS), 12)
    copy = SemanticAC(
        tower.with_parts(encoder, head), vectors, ClassIndex(LABELS), LABELS, prompt="{label}"
    )
    copy.compile(keras.optimizers.SGD(0.05), run_eagerly=_eager())
    before = copy.audio_tower.get_weights()
    history = copy.fit(*sounds, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = copy.audio_tower.get_weights()
    assert any(np.abs(a - b).max() > 0 for a, b in zip(after, before, strict=True))


def test_a_saved_model_contains_the_tagger(model, sounds, tmp_path):
    path = tmp_path / "m.keras"
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False)
    loaded.run_eagerly = _eager()
    np.testing.assert_allclose(predict(loaded, sounds[0]), predict(model, sounds[0]), atol=1e-6)
    altered = tmp_path / "altered.keras"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(altered, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:-1] if name.endswith("tagger.tflite") else content)
    with pytest.raises(ValueError, match=r"tiny_tagger\.tflite does not match its checksum"):
        keras.saving.load_model(altered, compile=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning", "ignore::DeprecationWarning")
def test_a_bundle_holds_the_tagger_and_streams_as_the_model_predicts(model, sounds, tmp_path):
    path = tmp_path / "m.tflite"
    contract = export_tflite(model, path, clips=sounds[0])
    assert read_contract(path) == contract
    assert (contract.inputs, contract.tagger) == ("embeddings", model.audio_tower.contract)
    assert contract.parity["max_score_difference"] <= 1e-4
    recording = np.concatenate(sounds[0])
    classifier = StreamingClassifier(path, hop_seconds=1.0)
    results = [
        result
        for start in range(0, recording.size, 5000)
        for result in classifier.push(recording[start : start + 5000])
    ] + classifier.flush()
    scores = np.stack([result.scores for result in results])
    np.testing.assert_allclose(scores, predict(model, sounds[0]), atol=1e-4)


def test_only_a_tagger_s_bundle_takes_embeddings(micro_model_without_tagger, tmp_path):
    with pytest.raises(ValueError, match="only for a model with a TaggerTower"):
        export_tflite(micro_model_without_tagger, tmp_path / "m.tflite", inputs="embeddings")


@pytest.fixture
def micro_model_without_tagger(micro):
    return SemanticAC.from_preset(micro, LABELS)


def test_windows_hold_at_least_one_of_the_tagger_s(tiny_tagger):
    tagger = Tagger(tiny_tagger, 1000)  # windows of 8 s
    tower = TaggerTower.from_tagger(tagger, MeanPooling(4), window_seconds=5.0)
    assert (tower.front_end.window_seconds, tower.encoder.output_grid) == (8.0, (1, 1))
    assert tower.contract.hop_samples == 4000


def test_wrong_embeddings_and_a_missing_tagger_are_rejected(model):
    with pytest.raises(ValueError, match=r"must have shape \(B, 2, 16\)\. Received: \(3, 2, 15\)"):
        EmbeddingMap(2, 16)(np.zeros((3, 2, 15), np.float32))
    empty = TaggerTower.from_config(model.audio_tower.get_config())
    with pytest.raises(ValueError, match="has no tagger"):
        empty.inputs_of(np.zeros((1, WINDOW), np.float32))


def test_cscm_has_kernels_over_time_alone_on_one_column(model):
    assert model.audio_tower.head.conv3.kernel.shape == (3, 1, 16, 8)
    assert (
        hashlib.sha256(model.audio_tower.content).hexdigest() == model.audio_tower.contract.sha256
    )
