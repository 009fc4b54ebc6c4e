import keras
import numpy as np
import pytest

from semanticac_keras import CenteredText, CheckpointError, SemanticAC
from tests.pretrained_files import replace_sentence_encoder, write_pretrained
from training.learning.model import Weights, build_model
from training.learning.own_weights import copy_weights, load_own_model
from training.learning.recipes import Recipe


def load_own_weights(model, source):
    copy_weights(load_own_model(source), model, str(source))


@pytest.fixture
def source(micro, tmp_path):
    """A run directory with a model of the labels a and b, and that model."""
    keras.utils.set_random_seed(1)
    model = SemanticAC.from_preset(micro, ["a", "b"])
    model.logit_scale.assign(3.0)
    model.save(tmp_path / "model.keras")
    return tmp_path, model


def test_both_towers_are_taken_over_and_new_labels_are_embedded(source, micro):
    directory, trained = source
    recipe = Recipe(micro, text_warmup_steps=5, prompt="this is {label}")
    model = build_model(["b", "c", "d"], recipe, Weights(model=directory))
    sounds = np.random.default_rng(0).standard_normal((2, 5120)).astype(np.float32)
    np.testing.assert_array_equal(model.encode_audio(sounds), trained.encode_audio(sounds))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model.label_embeddings),
        trained.encode_text([f"this is {label}" for label in "bcd"]),
        atol=1e-6,
    )
    assert float(model.logit_scale) == 3.0
    load_own_weights(model, directory / "model.keras")


def test_a_model_in_another_space_is_continued(micro, tmp_path, monkeypatch):
    replace_sentence_encoder(monkeypatch)
    recipe = Recipe(micro, prompt="{label}")
    tower = str(write_pretrained(tmp_path / "tower.npz"))
    trained = build_model(["a", "b"], recipe, Weights(model=tower, text="minilm"))
    trained.save(tmp_path / "model.keras")
    model = build_model(["b", "c"], recipe, Weights(model=str(tmp_path)))
    assert isinstance(model.text_encoder, CenteredText)
    sounds = np.random.default_rng(0).standard_normal((2, 5120)).astype(np.float32)
    np.testing.assert_array_equal(model.encode_audio(sounds), trained.encode_audio(sounds))
    np.testing.assert_allclose(model.encode_text(["b"]), trained.encode_text(["b"]), atol=1e-6)


def test_scale_and_bias_come_from_a_model_that_scores_alike(source, micro, tmp_path):
    directory, _ = source
    recipe = Recipe(micro, targets="sigmoid")
    model = build_model(["a", "b"], recipe, Weights(model=directory))
    assert float(model.logit_scale) == pytest.approx(np.log(10))
    assert float(model.logit_bias) == pytest.approx(-np.log(2))
    model.logit_bias.assign(-4.0)
    model.save(tmp_path / "independent.keras")
    again = build_model(["b", "c"], recipe, Weights(model=tmp_path / "independent.keras"))
    assert float(again.logit_bias) == -4.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "nano"}, "its preset is 'micro', here 'nano'"),
        ({"head": "pooled"}, "its head is CSCM, here MeanPooling"),
        ({"texts": "none"}, "its text encoder is TextEncoder, here ClassVectors"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(source, micro, options, message, monkeypatch):
    from semanticac_keras.presets import PRESETS

    monkeypatch.setitem(PRESETS, "nano", PRESETS[micro])
    model = SemanticAC.from_preset(**{"preset": micro, "labels": ["a", "b"], **options})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_own_weights(model, source[0])
    assert len(str(caught.value).splitlines()) == 1


def test_another_size_is_named(source, micro, monkeypatch):
    from dataclasses import replace

    from semanticac_keras.presets import PRESETS

    smaller = {**PRESETS[micro].cscm, "hidden_dim": 4}
    monkeypatch.setitem(PRESETS, micro, replace(PRESETS[micro], cscm=smaller))
    with pytest.raises(CheckpointError, match=r"its head has \d+ weights of [\d,]+ values, here"):
        load_own_weights(SemanticAC.from_preset(micro, ["a", "b"]), source[0])


def test_class_vectors_are_taken_over_for_equal_labels_only(micro, tmp_path):
    trained = SemanticAC.from_preset(micro, ["a", "b"], texts="none")
    trained.save(tmp_path / "model.keras")
    expected = keras.ops.convert_to_numpy(trained.label_embeddings)
    for labels, same in ((["a", "b"], True), (["b", "c"], False), (["a", "b", "c"], False)):
        model = SemanticAC.from_preset(micro, labels, texts="none")
        load_own_weights(model, tmp_path)
        assert np.array_equal(keras.ops.convert_to_numpy(model.label_embeddings), expected) == same


def test_a_missing_or_foreign_file_is_named(source, tmp_path):
    _, model = source
    with pytest.raises(CheckpointError, match=r"x.keras does not exist\. `weights` must be"):
        load_own_weights(model, tmp_path / "x.keras")
    (tmp_path / "x.keras").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"x.keras cannot be read: "):
        load_own_weights(model, tmp_path / "x.keras")
    keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)]).save(tmp_path / "x.keras")
    with pytest.raises(CheckpointError, match=r"must hold a SemanticAC\. Received: Sequential"):
        load_own_weights(model, tmp_path / "x.keras")


def test_it_replaces_pretrained_weights(micro):
    with pytest.raises(ValueError, match="leave out --audio-weights"):
        build_model(["a", "b"], Recipe(micro), Weights(audio="x", model="y"))
