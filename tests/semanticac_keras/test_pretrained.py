"""Pretrained audio towers: their file, and models of their text space."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from semanticac_keras import (
    ByteTokenizer,
    CheckpointError,
    SemanticAC,
    load_pretrained,
    pretrained,
)
from semanticac_keras.presets import PRESETS
from semanticac_keras.pretrained import save_pretrained
from tests import micro
from tests.pretrained_files import (
    BIAS,
    DIM,
    LOG_SCALE,
    NAMES,
    make_pretrained,
    replace_sentence_encoder,
)


@pytest.fixture(scope="module", autouse=True)
def micro_preset():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, micro.NAME, micro.PRESET)
        yield


@pytest.fixture(scope="module")
def original():
    return make_pretrained()


@pytest.fixture
def file(original, tmp_path):
    save_pretrained(original, tmp_path / "tower.npz")
    return tmp_path / "tower.npz"


@pytest.fixture
def sentence_encoder(monkeypatch):
    return replace_sentence_encoder(monkeypatch)


def waveforms(number=2):
    samples = micro.PRESET.front_end.window_samples
    return np.random.default_rng(0).normal(0, 0.1, (number, samples)).astype(np.float32)


def embed(tower):
    return keras.ops.convert_to_numpy(tower(waveforms()))


def test_a_file_holds_the_tower_and_its_space(original, file):
    loaded = load_pretrained(file)
    np.testing.assert_allclose(embed(loaded.audio_tower), embed(original.audio_tower), atol=5e-3)
    for name in ("preset", "log_scale", "bias", "about"):
        assert getattr(loaded, name) == getattr(original, name)
    assert loaded.space.names == NAMES
    np.testing.assert_allclose(loaded.space.vectors, original.space.vectors, atol=1e-3)
    np.testing.assert_array_equal(loaded.space.center, original.space.center)
    with np.load(file) as arrays:
        assert {arrays[name].dtype for name in arrays if "weight" in name} == {np.dtype("float16")}


@pytest.mark.parametrize("targets", ["prototype", "sigmoid"])
def test_known_texts_need_no_sentence_encoder(original, file, targets):
    model = SemanticAC.from_preset(
        micro.NAME, ["rain", "Dog"], targets=targets, weights=file, label_texts={"Dog": ["DOG"]}
    )
    cosines = embed(original.audio_tower) @ original.space.vectors[[2, 0]].T
    logits = keras.ops.convert_to_numpy(model(waveforms()))
    expected = np.exp(LOG_SCALE) * cosines + (BIAS if targets == "sigmoid" else 0.0)
    np.testing.assert_allclose(logits, expected, atol=0.1)
    assert model.prompt == "{label}"
    with pytest.raises(ValueError, match="among the 3 known ones, such as 'Dog'"):
        model.set_labels(["cat"])
    assert model.labels == ("rain", "Dog")


def test_other_texts_are_mixtures_of_the_known_ones(original, file, sentence_encoder):
    model = SemanticAC.from_preset(micro.NAME, ["a cat", "Dog"], targets="sigmoid", weights=file)
    encoder, loaded = sentence_encoder
    assert loaded == ["minilm"]
    unit = keras.ops.convert_to_numpy(encoder(ByteTokenizer(64)(["a cat"]), normalize=True))[0]
    centered = unit - original.space.center
    shares = np.exp(original.space.vectors @ centered / np.linalg.norm(centered) / 0.07)
    shares /= shares.sum()
    known = embed(original.audio_tower) @ original.space.vectors.T
    logits = keras.ops.convert_to_numpy(model(waveforms()))
    np.testing.assert_allclose(logits[:, 0], np.exp(LOG_SCALE) * known @ shares + BIAS, atol=0.1)
    assert not model.text_encoder.trainable_variables
    assert [name for name, _ in model.text_encoder.nearest(model.tokenizer(["a cat"]))[0]] == [
        NAMES[k] for k in np.argsort(-shares)
    ]


def test_a_training_places_texts_around_the_centre(original, sentence_encoder):
    encoder, tokenizer = original.space.any_text()
    unit = keras.ops.convert_to_numpy(
        sentence_encoder[0](ByteTokenizer(64)(["a cat"]), normalize=True)
    )[0]
    expected = unit - original.space.center
    found = keras.ops.convert_to_numpy(encoder(tokenizer(["a cat"])))[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("label", ["Dog", "a cat"])
def test_models_reload_without_the_file(file, tmp_path, sentence_encoder, label):
    model = SemanticAC.from_preset(micro.NAME, [label, "Rain"], weights=file)
    model.save(tmp_path / "m.keras")
    file.unlink()
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(loaded(waveforms())),
        keras.ops.convert_to_numpy(model(waveforms())),
    )
    loaded.set_labels(["rain"])


@pytest.mark.parametrize("texts", ["none", "random"])
def test_other_text_sides_start_from_the_tower_alone(file, texts):
    model = SemanticAC.from_preset(micro.NAME, ["a cat", "Dog"], weights=file, texts=texts)
    assert model.text_encoder.output_dim == DIM
    assert model.text_encoder.trainable_variables
    assert float(keras.ops.convert_to_numpy(model.logit_scale)) != LOG_SCALE


def test_wrong_files_are_one_error(file, tmp_path, original, monkeypatch):
    missing = tmp_path / "missing.npz"
    with pytest.raises(CheckpointError, match="no such file"):
        load_pretrained(missing)
    monkeypatch.setattr(pretrained, "_PACKAGED", missing)
    with pytest.raises(CheckpointError, match="this installation has none"):
        load_pretrained()
    content = file.read_bytes()
    for wrong in (b"", content[:5000], b"RIFF" + content[4:5000]):
        file.write_bytes(wrong)
        with pytest.raises(CheckpointError, match="holds no pretrained audio tower"):
            load_pretrained(file)
    np.savez(file, settings=np.array("{}"))
    with pytest.raises(CheckpointError, match="holds no pretrained audio tower: 'format'"):
        load_pretrained(file)


def test_what_cannot_be_stored_is_refused(original, tmp_path):
    path = tmp_path / "tower.npz"
    wrong = replace(original.space, vectors=np.full((3, DIM), np.nan, np.float32))
    with pytest.raises(ValueError, match="vectors must be finite"):
        save_pretrained(replace(original, space=wrong), path)
    with pytest.raises(ValueError, match="front end of small"):
        save_pretrained(replace(original, preset="small"), path)
    assert not path.exists()


def test_options_that_the_weights_decide_are_refused(file):
    with pytest.raises(ValueError, match="`preset` must be 'micro'"):
        SemanticAC.from_preset("tiny", ["Dog"], weights=file)
    with pytest.raises(ValueError, match="their own audio tower, stem and head"):
        SemanticAC.from_preset(micro.NAME, ["Dog"], weights=file, head="pooled")
