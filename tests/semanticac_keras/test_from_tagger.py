"""A SemanticAC from a tagger's scores and class names, without training."""

import math
import re

import keras
import numpy as np
import pytest

from edge import StreamingClassifier, read_contract
from semanticac_keras import (
    BertEncoder,
    ByteTokenizer,
    ClassProfile,
    SemanticAC,
    Tagger,
    export_tflite,
)
from semanticac_keras.semantic_ac import softmax
from tests.clips import make_clips

RATE_HZ, WINDOW = 32_000, 160_000
NAMES, LABELS = ("Hum", "Whistle", "Hiss"), ("whistling", "a hiss")


@pytest.fixture(scope="module")
def tagger(tiny_tagger):
    return Tagger(tiny_tagger, RATE_HZ)


@pytest.fixture(scope="module")
def text():
    """A text encoder without layers, the mean of random vectors of bytes, and its tokenizer."""
    keras.utils.set_random_seed(0)
    sizes = {"width": 8, "num_layers": 0, "num_heads": 1, "hidden_dim": 8}
    return {
        "text_encoder": BertEncoder(vocabulary_size=258, context_length=32, **sizes),
        "tokenizer": ByteTokenizer(32),
    }


@pytest.fixture(scope="module")
def sounds():
    return make_clips(3, WINDOW, RATE_HZ)[0]


@pytest.fixture
def model(tagger, text, sounds):
    model = SemanticAC.from_tagger(tagger, NAMES, LABELS, background=list(sounds[:2]), **text)
    model.run_eagerly = model.audio_tower.run_eagerly = _eager()
    return model


def _eager():
    return keras.backend.backend() == "tensorflow"


def predict(model, x):
    return model.predict(x, verbose=0)


def profiles(model, texts):
    """Shares of the classes, (n, 3)."""
    return model.encode_text(texts)[:, :3]


@pytest.mark.parametrize("background", [True, False])
def test_a_clip_s_probabilities_are_those_of_its_scores(background, model, tagger, text, sounds):
    """The tagger's windows start every half second, the shortest step there is."""
    if not background:
        model = SemanticAC.from_tagger(tagger, NAMES, LABELS, **text)
        model.run_eagerly = model.audio_tower.run_eagerly = _eager()
    starts = range(0, WINDOW - 8000 + 1, 16_000)
    scores = np.stack(
        [[tagger.hear(clip[i:][:8000], RATE_HZ)[0][0] for i in starts] for clip in sounds]
    ).astype(np.float64)
    log_odds = np.log((scores / (1 - scores)).mean(axis=1))
    logs = (log_odds - log_odds[:2].mean(axis=0)) / 2 if background else log_odds / 4
    values = np.exp(logs)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    cosines = values @ profiles(model, LABELS).T
    np.testing.assert_allclose(predict(model, sounds), softmax(20 * cosines), atol=1e-4)
    np.testing.assert_allclose(model.encode_audio(sounds)[:, :3], values, atol=1e-4)


def test_labels_and_prompts_are_replaced_without_training(model, sounds):
    assert (model.prompt, model.labels) == ("{label}", LABELS)
    before = model.encode_audio(sounds)
    model.set_labels(["Hum", "Hiss", "wind"], "the {label}")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model.label_embeddings)[:, :3],
        profiles(model, ["the Hum", "the Hiss", "the wind"]),
        atol=1e-6,
    )
    np.testing.assert_array_equal(model.encode_audio(sounds), before)
    assert predict(model, sounds).shape == (3, 3)


def test_a_saved_model_needs_no_other_file(model, sounds, tmp_path):
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    loaded.run_eagerly = loaded.audio_tower.run_eagerly = _eager()
    assert loaded.text_encoder.class_names == NAMES
    np.testing.assert_allclose(predict(loaded, sounds), predict(model, sounds), atol=1e-6)
    for each in (model, loaded):
        each.set_labels(["hum", "wind"])
    np.testing.assert_allclose(predict(loaded, sounds), predict(model, sounds), atol=1e-6)


def test_fit_trains_the_logit_scale_alone(model, sounds):
    assert [weight.path for weight in model.trainable_variables] == [model.logit_scale.path]
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=_eager())
    model.fit(sounds, np.array([0, 1, 1]), verbose=0)
    assert float(keras.ops.convert_to_numpy(model.logit_scale)) != np.float32(math.log(20.0))


def test_half_precision_keeps_scores_near_one(tagger, text, sounds, model):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = SemanticAC.from_tagger(tagger, NAMES, LABELS, background=list(sounds[:2]), **text)
    finally:
        keras.config.set_dtype_policy(before)
    half.run_eagerly = half.audio_tower.run_eagerly = _eager()
    np.testing.assert_allclose(half.encode_audio(sounds), model.encode_audio(sounds), atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning", "ignore::DeprecationWarning")
def test_a_bundle_holds_both_graphs_and_streams_as_the_model_predicts(model, sounds, tmp_path):
    path = tmp_path / "m.tflite"
    contract = export_tflite(model, path, clips=sounds)
    assert read_contract(path) == contract
    assert (contract.inputs, contract.embedding_dim) == ("embeddings", 4)
    assert contract.tagger == model.audio_tower.contract
    assert contract.tagger.embedding_dim == 3
    assert contract.parity["max_score_difference"] <= 1e-4
    recording = np.concatenate(sounds)
    classifier = StreamingClassifier(path, hop_seconds=5.0)
    results = [
        result
        for start in range(0, recording.size, 5000)
        for result in classifier.push(recording[start : start + 5000])
    ] + classifier.flush()
    scores = np.stack([result.scores for result in results])
    np.testing.assert_allclose(scores, predict(model, sounds), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": NAMES[:2]}, "each of the tagger's 3 scores. Received: 2"),
        ({"labels": ["a", "a"]}, "`labels` must be distinct"),
        ({"prompt": "a sound"}, "`prompt` must contain {label}"),
        ({"tokenizer": None}, "needs its own `tokenizer`. Received: None"),
    ],
)
def test_wrong_arguments(changes, message, tagger, text):
    arguments = {"class_names": NAMES, "labels": LABELS, **text, **changes}
    with pytest.raises(ValueError, match=re.escape(message)):
        SemanticAC.from_tagger(tagger, **arguments)


def test_minilm_is_the_default(tagger, text, monkeypatch):
    calls = []

    def load(source):
        calls.append(source)
        return text["text_encoder"], text["tokenizer"]

    monkeypatch.setattr("semanticac_keras.semantic_ac.load_sentence_encoder", load)
    model = SemanticAC.from_tagger(tagger, NAMES, LABELS)
    assert calls == ["minilm"]
    assert isinstance(model.text_encoder, ClassProfile)
