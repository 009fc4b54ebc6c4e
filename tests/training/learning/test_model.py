import keras
import numpy as np
import pytest

from semanticac_keras import (
    CSCM,
    BertEncoder,
    CenteredText,
    CheckpointError,
    ClassVectors,
    SubwordTokenizer,
    load_pretrained,
)
from tests.bert_files import write_sentence_encoder
from tests.clap_files import LOG_SCALE as CLAP_LOG_SCALE
from tests.clap_files import write_clap
from tests.pretrained_files import DIM, LOG_SCALE, replace_sentence_encoder, write_pretrained
from training.learning import model as module
from training.learning.model import Weights, build_model
from training.learning.recipes import CLAP, RECIPES, Recipe

LABELS = ("dog", "rain")


@pytest.fixture(autouse=True)
def policy():
    """Restore the precision that `build_model` sets."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def calls(monkeypatch):
    """Names and arguments of the calls that load or warm up weights, which do nothing."""
    calls = []
    for name in ("load_audio_checkpoint", "load_text_checkpoint", "decorrelate_labels"):
        monkeypatch.setattr(
            module, name, lambda *arguments, name=name: calls.append((name, *arguments))
        )
    return calls


def weights(model):
    return np.concatenate([values.ravel() for values in model.audio_tower.encoder.get_weights()])


def test_the_seed_determines_the_random_weights(micro):
    one, same, other = (
        weights(build_model(LABELS, Recipe(micro, seed=seed), Weights())) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_the_recipe_sets_precision_head_and_texts(micro):
    recipe = Recipe(micro, precision="mixed_bfloat16", head="pooled", texts="none")
    model = build_model(LABELS, recipe, Weights())
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert type(model.audio_tower.head).__name__ == "MeanPooling"
    assert model.prompts == LABELS


def test_a_random_text_encoder_is_warmed_up(micro, calls):
    model = build_model(LABELS, Recipe(micro, text_warmup_steps=7, batch_size=3), Weights())
    assert calls == [("decorrelate_labels", model, 7, 3)]


def test_a_pretrained_text_encoder_is_not_warmed_up(micro, calls):
    sources = Weights(audio="a.ckpt", text="t.ckpt")
    model = build_model(LABELS, Recipe(micro, text_warmup_steps=7), sources)
    assert calls == [
        ("load_audio_checkpoint", model.audio_tower.encoder, "a.ckpt"),
        ("load_text_checkpoint", model.text_encoder, "t.ckpt"),
    ]


@pytest.fixture
def sentence_encoder(tmp_path):
    """Path of a sentence encoder's files, which the audio tower does not need."""
    pytest.importorskip("tokenizers")
    write_sentence_encoder(tmp_path)
    return str(tmp_path)


def test_a_sentence_encoder_replaces_the_preset_s(micro, calls, sentence_encoder):
    model = build_model(LABELS, Recipe(micro, text_warmup_steps=7), Weights(text=sentence_encoder))
    assert calls == []
    assert isinstance(model.text_encoder, BertEncoder)
    assert isinstance(model.tokenizer, SubwordTokenizer)
    assert model.text_encoder.output_dim == model.audio_tower.embedding_dim == 12
    assert len(model.text_encoder.trainable_variables) == 1
    expected = model.encode_text(model.prompts)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model.label_embeddings), expected, atol=1e-6
    )


def test_a_sentence_encoder_has_its_own_vocabulary(micro, tmp_path):
    sources = Weights(text=str(tmp_path), vocabulary=tmp_path / "bpe.txt")
    with pytest.raises(ValueError, match="has its own vocabulary; leave out --bpe-vocab"):
        build_model(LABELS, Recipe(micro), sources)


def test_labels_can_have_several_texts(micro):
    texts = {"dog": ("bark", "howl")}
    recipe = Recipe(micro, prompt="a {label}")
    assert build_model(LABELS, recipe, Weights(), texts).prompts == ("a bark; a howl", "a rain")
    with pytest.raises(ValueError, match="leave out --label-texts"):
        build_model(LABELS, Recipe(micro, texts="none"), Weights(), texts)


def test_weights_without_a_use_are_refused(micro, tmp_path):
    vocabulary = tmp_path / "bpe.txt"
    for sources in (Weights(text="t.ckpt"), Weights(vocabulary=vocabulary)):
        with pytest.raises(ValueError, match='texts="none" has no text encoder'):
            build_model(LABELS, Recipe(micro, texts="none"), sources)
    with pytest.raises(ValueError, match="leave out --bpe-vocab"):
        build_model(LABELS, Recipe(micro), Weights(vocabulary=vocabulary))


@pytest.fixture
def tower(micro, tmp_path):
    """Path of a pretrained audio tower."""
    return str(write_pretrained(tmp_path / "tower.npz"))


def test_a_pretrained_tower_has_a_new_text_encoder(tower, calls):
    recipe = Recipe("micro", text_warmup_steps=7, spec_augment=True)
    model = build_model(LABELS, recipe, Weights(model=tower))
    assert calls == [("decorrelate_labels", model, 7, 32)]
    assert model.audio_tower.encoder.spec_augment
    theirs = load_pretrained(tower).audio_tower
    for mine, other in zip(model.audio_tower.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert model.text_encoder.output_dim == DIM
    assert float(keras.ops.convert_to_numpy(model.logit_scale)) != LOG_SCALE


def test_a_pretrained_tower_keeps_its_text_space(tower, calls, monkeypatch):
    _, loaded = replace_sentence_encoder(monkeypatch)
    recipe = Recipe("micro", text_warmup_steps=7, prompt="{label}")
    model = build_model(LABELS, recipe, Weights(model=tower, text="minilm"))
    assert (calls, loaded) == ([], ["minilm"])
    assert isinstance(model.text_encoder, CenteredText)
    assert not model.text_encoder.trainable_variables
    assert float(keras.ops.convert_to_numpy(model.logit_scale)) == LOG_SCALE


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"head": "pooled"}, {}, "has the preset micro, its stem and the head cscm"),
        ({"preset": "tiny"}, {}, "has the preset micro, its stem and the head cscm"),
        ({}, {"audio": "a.ckpt"}, "has an audio tower; leave out --audio-weights"),
        ({}, {"text": "minilm", "vocabulary": "bpe.txt"}, "leave out --bpe-vocab"),
    ],
)
def test_what_a_pretrained_tower_decides_is_refused(tower, changes, more, message):
    with pytest.raises(ValueError, match=message):
        build_model(LABELS, Recipe("micro").override(changes), Weights(model=tower, **more))


@pytest.fixture
def clap(tmp_path):
    """Sources with a pretrained CLAP."""
    pytest.importorskip("tokenizers")
    write_clap(tmp_path)
    return Weights(model=str(tmp_path))


def parameters(part):
    return [keras.ops.convert_to_numpy(weight) for weight in part.weights]


def test_a_clap_keeps_its_towers_but_for_what_the_recipe_changes(clap):
    published = build_model(LABELS, RECIPES["finetune"].override({"spec_augment": False}), clap)
    changes = {"head": "cscm", "train_text": True, "label_smoothing": 0.25}
    model = build_model(LABELS, RECIPES["finetune"].override(changes), clap)
    assert model.front_end == published.front_end
    assert isinstance(model.audio_tower.head, CSCM)
    assert model.audio_tower.whole_repeats
    assert model.audio_tower.encoder.spec_augment
    assert not published.audio_tower.encoder.spec_augment
    assert (model.targets, model.label_smoothing) == ("prototype", 0.25)
    assert float(keras.ops.convert_to_numpy(model.logit_scale)) == CLAP_LOG_SCALE
    assert not published.text_encoder.trainable_variables
    assert len(model.text_encoder.trainable_variables) == len(model.text_encoder.weights)
    for part, other in (
        (model.audio_tower.encoder, published.audio_tower.encoder),
        (model.text_encoder, published.text_encoder),
    ):
        for values, expected in zip(parameters(part), parameters(other), strict=True):
            np.testing.assert_array_equal(values, expected)


def test_a_clap_can_do_without_its_text_encoder(clap):
    model = build_model(LABELS, RECIPES["finetune"].override({"texts": "none"}), clap)
    assert isinstance(model.text_encoder, ClassVectors)
    assert model.prompts == LABELS


def test_a_clap_of_ones_own_has_its_precision(clap, tmp_path):
    recipe = RECIPES["finetune"].override({"head": "cscm"})
    build_model(LABELS, recipe, clap).save(tmp_path / "m.keras")
    own = Weights(model=str(tmp_path / "m.keras"))
    model = build_model(("wind", *LABELS), recipe, own)
    assert (model.name, model.labels) == (CLAP, ("wind", *LABELS))
    other = recipe.override({"precision": "mixed_bfloat16"})
    with pytest.raises(CheckpointError, match="its precision is 'float32', here 'mixed_bfloat16'"):
        build_model(LABELS, other, own)


def test_a_recipe_for_a_clap_takes_no_preset_s_model(micro, tmp_path):
    build_model(LABELS, Recipe(micro), Weights()).save(tmp_path / "m.keras")
    with pytest.raises(CheckpointError, match="its preset is 'micro', here 'clap'"):
        build_model(LABELS, RECIPES["finetune"], Weights(model=str(tmp_path / "m.keras")))
