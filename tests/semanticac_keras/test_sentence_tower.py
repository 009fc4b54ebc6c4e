"""A SemanticAC whose text tower is a sentence encoder."""

import shutil

import keras
import numpy as np
import pytest

from semanticac_keras import SemanticAC, export_tflite, load_sentence_encoder
from tests.bert_files import write_sentence_encoder

pytest.importorskip("tokenizers")

LABELS = ("dog", "rain", "bark")
EAGER = keras.backend.backend() == "tensorflow"


@pytest.fixture
def model(nano, tmp_path):
    directory = tmp_path / "published"
    directory.mkdir()
    write_sentence_encoder(directory)
    encoder, tokenizer = load_sentence_encoder(directory, output_dim=12)
    shutil.rmtree(directory)
    model = SemanticAC.from_preset(
        nano,
        LABELS,
        prompt="an audio clip of {label}",
        tokenizer=tokenizer,
        text_encoder=encoder,
    )
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=EAGER)
    model.audio_tower.run_eagerly = EAGER
    return model


def test_a_text_encoder_without_its_tokenizer_is_refused(nano, model):
    with pytest.raises(ValueError, match="needs its own `tokenizer`"):
        SemanticAC.from_preset(nano, LABELS, text_encoder=model.text_encoder)


def texts_of(model, *labels):
    return model.encode_text([f"an audio clip of {label}" for label in labels])


def label_embeddings(model):
    return keras.ops.convert_to_numpy(model.label_embeddings)


def test_training_changes_the_projection_alone(model, clips):
    before = [keras.ops.convert_to_numpy(weight) for weight in model.text_encoder.weights]
    model.fit(*clips, batch_size=12, epochs=1, verbose=0)
    changed = [
        weight.path
        for weight, old in zip(model.text_encoder.weights, before, strict=True)
        if np.abs(keras.ops.convert_to_numpy(weight) - old).max() > 0
    ]
    assert changed == [model.text_encoder.projection.kernel.path]
    np.testing.assert_allclose(label_embeddings(model), texts_of(model, *LABELS), atol=1e-5)


def test_training_does_not_run_the_frozen_part(model, clips, monkeypatch):
    calls = []
    features = model.text_encoder.features

    def counted(token_ids):
        calls.append(token_ids.shape)
        return features(token_ids)

    monkeypatch.setattr(model.text_encoder, "features", counted)
    model.fit(*clips, batch_size=12, epochs=2, validation_data=clips, verbose=0)
    assert len(calls) == 1  # once all is over


def test_a_reloaded_model_encodes_new_texts_without_files(model, tmp_path):
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_array_equal(label_embeddings(loaded), label_embeddings(model))
    np.testing.assert_allclose(
        loaded.encode_text(["a dog, barking"]), model.encode_text(["a dog, barking"]), atol=1e-6
    )
    for each in (model, loaded):
        each.set_labels(["dogs", "rain"], prompt="{label}!")
    assert loaded.prompts == ("dogs!", "rain!")
    np.testing.assert_allclose(label_embeddings(loaded), label_embeddings(model), atol=1e-6)


def test_several_texts_of_a_label(model, tmp_path):
    for texts in ({"rain": ["rains", "raining"]}, {"dog": ["dogs", "a dog"]}):
        model.set_labels(LABELS, "{label}", texts)
        names = [name for label in LABELS for name in texts.get(label, [label])]
        vectors = dict(zip(names, model.encode_text(names), strict=True))
        for label, vector in zip(LABELS, label_embeddings(model), strict=True):
            mean = sum(vectors[name] for name in texts.get(label, [label]))
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(label_embeddings(loaded), label_embeddings(model))
    np.testing.assert_array_equal(loaded.label_features, model.label_features)


@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_the_bundle_has_the_label_vectors(model, clips, tmp_path):
    model.set_labels(LABELS, label_texts={"rain": ["rain", "raining"]})
    contract = export_tflite(model, tmp_path / "m.tflite", clips=clips[0][:3])
    assert contract.parity["max_cosine_difference"] <= 1e-4
    assert contract.labels == LABELS
    assert contract.prompts[:2] == (
        "an audio clip of dog",
        "an audio clip of rain; an audio clip of raining",
    )
