import keras
import numpy as np
import pytest

from semanticac_keras import BertEncoder, SubwordTokenizer
from tests.bert_files import write_sentence_encoder
from training.learning import model as module
from training.learning.model import Weights, build_model
from training.learning.recipes import Recipe

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
