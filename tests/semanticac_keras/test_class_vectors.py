import keras
import numpy as np
import pytest
from keras import ops

from semanticac_keras import ClassIndex, MeanPooling, SemanticAC, export_tflite
from semanticac_keras.prompts import fill, random_names
from tests.clips import LABELS

EAGER = keras.backend.backend() == "tensorflow"


def build(nano, texts, **options):
    keras.utils.set_random_seed(1)
    model = SemanticAC.from_preset(nano, LABELS, texts=texts, **options)
    model.compile(keras.optimizers.Adam(0.003), metrics=["accuracy"], run_eagerly=EAGER)
    model.audio_tower.run_eagerly = EAGER
    return model


def test_class_vectors_make_a_cosine_softmax_classifier(nano, clips):
    model = build(nano, "none", targets="prototype")
    audio = model.encode_audio(clips[0])
    vectors = ops.convert_to_numpy(model.text_encoder.vectors)
    logits = audio @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T / 0.07
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(clips[0], verbose=0), shares, atol=1e-4)
    cross_entropy = -np.log(shares[np.arange(len(shares)), clips[1]]).mean()
    loss = model.evaluate(*clips, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(cross_entropy, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("texts", ["random", "none"])
def test_control_models_are_trained_and_saved(nano, clips, texts, tmp_path):
    model = build(nano, texts, targets="prototype")
    before = ops.convert_to_numpy(model.label_embeddings)
    history = model.fit(*clips, batch_size=24, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert np.abs(ops.convert_to_numpy(model.label_embeddings) - before).max() > 1e-3
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    loaded.run_eagerly = EAGER
    np.testing.assert_array_equal(
        loaded.predict(clips[0], verbose=0), model.predict(clips[0], verbose=0)
    )
    assert loaded.prompts == model.prompts


def test_learned_classes_cannot_be_replaced(nano):
    model = build(nano, "none")
    assert model.prompts == LABELS
    for labels, prompt in (
        (["rain", "dog"], None),
        (LABELS[:2], None),
        (LABELS[::-1], None),
        (LABELS, "an audio clip of {label}"),
    ):
        with pytest.raises(ValueError, match="the 3 labels themselves"):
            model.set_labels(labels, prompt)
    with pytest.raises(ValueError, match="no text encoder"):
        model.encode_text(["a siren"])
    assert model.labels == LABELS


def test_random_names_are_filled_into_the_prompt(nano):
    model = build(nano, "random")
    assert model.labels == LABELS
    for label, text in zip(LABELS, model.prompts, strict=True):
        name = text.removeprefix("an audio clip of ")
        assert name != label
        assert [len(word) for word in name.split()] == [len(word) for word in label.split()]
    model.set_labels(["rain", "hiss"], "the sound of {label}")
    assert model.prompts == fill("the sound of {label}", ["rain", "hiss"], random_texts=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.label_embeddings), model.encode_text(model.prompts), atol=1e-6
    )


def test_random_name_depends_on_its_label_alone():
    names = random_names(["rain", "dog", "sea waves"])
    assert random_names(["sea waves", "rain"]) == [names[2], names[0]]
    assert [len(name) for name in names] == [4, 3, 9]
    assert names[2][3] == " "


def test_random_names_of_the_shortest_labels_are_distinct():
    labels = [chr(ord("a") + i) for i in range(26)] + [str(i) for i in range(10)]
    assert len(set(random_names(labels))) == 36


def test_unknown_texts_and_repeated_labels_are_rejected(nano):
    with pytest.raises(ValueError, match="`texts` must be one of"):
        build(nano, "words")
    with pytest.raises(ValueError, match=r"Repeated: \['a'\]"):
        SemanticAC.from_preset(nano, ["a", "a"], texts="none")
    index = ClassIndex(LABELS)
    assert ClassIndex.from_config(index.get_config()).labels == index.labels == LABELS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_export_without_text(tiny_classifier, tmp_path):
    model, waveforms = tiny_classifier(MeanPooling(12))
    contract = export_tflite(model, tmp_path / "m.tflite", clips=waveforms)
    assert contract.prompts == contract.labels == LABELS
    assert contract.parity["max_score_difference"] <= 1e-4
