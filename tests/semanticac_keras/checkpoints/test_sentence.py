"""Sentence encoders come from a directory, with every key and every setting accounted for."""

import hashlib
import json

import keras
import numpy as np
import pytest

from semanticac_keras import TextEncoder, load_sentence_encoder, load_text_checkpoint
from semanticac_keras.checkpoints import CheckpointError, registry
from semanticac_keras.checkpoints.sentence import is_sentence_encoder
from semanticac_keras.download import DownloadError
from tests.bert_files import write_sentence_encoder, write_weights

pytest.importorskip("tokenizers")

NORM = "embeddings.LayerNorm.weight"
PACKAGE = "semanticac_no_such_package"


def embed(source):
    encoder, tokenizer = load_sentence_encoder(source)
    return keras.ops.convert_to_numpy(encoder(tokenizer(["a dog", "rains"])))


def refusal(directory):
    with pytest.raises(CheckpointError) as caught:
        load_sentence_encoder(directory)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("prefix", ["bert.", "roberta."])
def test_names_may_have_a_prefix_and_heads(prefix, tmp_path):
    state = write_sentence_encoder(tmp_path)
    expected = embed(tmp_path)
    state = {f"{prefix}{key}": value for key, value in state.items()}
    state[f"{prefix}embeddings.position_ids"] = np.arange(20)
    state[f"{prefix}pooler.dense.bias"] = np.ones(8)
    state["cls.predictions.bias"] = state["lm_head.bias"] = np.ones(3)
    write_weights(state, tmp_path)
    np.testing.assert_array_equal(embed(tmp_path), expected)


def test_norms_may_have_tensorflow_s_names(tmp_path):
    state = write_sentence_encoder(tmp_path)
    expected = embed(tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, name in old.items():
        state = {key.replace(new, name): value for key, value in state.items()}
    write_weights(state, tmp_path)
    np.testing.assert_array_equal(embed(tmp_path), expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (NORM, None, "no weights named as in BERT or BERT of TensorFlow or Hugging Face CLAP"),
        ("encoder.layer.0.output.dense.bias", None, "output.dense.bias` is missing"),
        ("encoder.layer.1.output.dense.bias", np.ones(8), "output.dense.bias` is unexpected"),
        (NORM, np.ones(9), f"`{NORM}` has shape (9,), expected (8,)"),
        (NORM, np.ones(8, int), "dtype int64, expected floating point"),
        (NORM, np.full(8, np.nan), f"`{NORM}` must be finite"),
    ],
)
def test_each_mismatch_of_weights_is_reported(key, value, message, tmp_path):
    state = write_sentence_encoder(tmp_path)
    if value is None:
        del state[key]
    else:
        state[key] = value
    write_weights(state, tmp_path)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "`model_type` must be bert or roberta or xlm-roberta or clap"),
        ({"model_type": None}, "Received: none"),
        ({"hidden_act": "relu"}, "`hidden_act` must be gelu. Received: relu"),
        ({"position_embedding_type": "relative_key"}, "`position_embedding_type` must be absolute"),
        ({"hidden_size": "8"}, "`hidden_size` must be a positive integer. Received: 8"),
        ({"num_hidden_layers": None}, "`num_hidden_layers` must be a positive integer"),
        ({"num_attention_heads": 3}, "fits no encoder: `num_heads` must divide `width`"),
        ({"num_hidden_layers": 2}, "encoder.layer.1.attention.self.query.weight` is missing"),
        ({"vocab_size": 10}, "the tokenizer must have at most 10 tokens"),
    ],
)
def test_each_unsuitable_setting_is_reported(changes, message, tmp_path):
    write_sentence_encoder(tmp_path, **changes)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json cannot be read: No such file"),
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[]", "must hold an object. Received: []"),
        ("vocab.txt", None, "must have tokenizer.json, vocab.txt, or vocab.json and merges.txt"),
        ("tokenizer.json", "{}", "tokenizer.json cannot be read as a tokenizer"),
        ("model.safetensors", None, "must have model.safetensors or pytorch_model.bin"),
        ("model.safetensors", "<html>", "a web page, not a checkpoint"),
        ("modules.json", "{}", "modules.json must hold a list of objects"),
        ("modules.json", '[{"type": "x.Dense"}]', "no others but Transformer and Normalize"),
        ("modules.json", '[{"type": "x.Pooling", "path": "pool"}]', "pool/config.json cannot be"),
        ("modules.json", '[{"type": "x.Pooling", "path": ""}]', "must have one of pooling_mode"),
        ("sentence_bert_config.json", '{"max_seq_length": 0}', "`max_seq_length` must be a pos"),
    ],
)
def test_each_missing_or_damaged_file_is_reported(name, content, message, tmp_path):
    write_sentence_encoder(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    assert message in refusal(tmp_path)


def test_truncated_weights_are_refused(tmp_path):
    write_sentence_encoder(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "damaged: the byte range of" in refusal(tmp_path)


def test_length_and_pooling_of_a_sentence_encoder_are_read(tmp_path):
    write_sentence_encoder(tmp_path)
    encoder, tokenizer = load_sentence_encoder(tmp_path, output_dim=5)
    assert (encoder.pooling, encoder.frozen, tokenizer.context_length) == ("mean", True, 20)
    assert encoder.projection.kernel.shape == (8, 5)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    encoder, tokenizer = load_sentence_encoder(tmp_path, frozen=False)
    assert (encoder.pooling, encoder.frozen, tokenizer.context_length) == ("cls", False, 12)
    assert (encoder.context_length, encoder.projection) == (20, None)


@pytest.mark.parametrize("frozen", [True, False])
def test_only_an_encoder_that_is_trained_computes_in_mixed_precision(frozen, tmp_path):
    write_sentence_encoder(tmp_path)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder, _ = load_sentence_encoder(tmp_path, frozen=frozen)
    finally:
        keras.config.set_dtype_policy(before)
    expected = "float32" if frozen else "mixed_bfloat16"
    assert encoder.blocks[0].fc1.dtype_policy.name == expected


def test_weights_alone_are_loaded_from_a_directory(tmp_path):
    write_sentence_encoder(tmp_path)
    encoder, tokenizer = load_sentence_encoder(tmp_path)
    before = embed(tmp_path)
    for variable in encoder.weights:
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    load_text_checkpoint(encoder, tmp_path)
    ids = tokenizer(["a dog", "rains"])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(encoder(ids)), before)


def test_weights_alone_do_not_fit_clip_s_encoder(tmp_path):
    write_sentence_encoder(tmp_path)
    encoder = TextEncoder(30, 6, width=8, num_layers=1, num_heads=2, output_dim=4)
    with pytest.raises(CheckpointError, match="pass its directory, which also has its tokenizer"):
        load_text_checkpoint(encoder, tmp_path / "model.safetensors")


def test_other_sources_are_refused(tmp_path):
    message = r"must be a directory or one of clap-htsat-unfused, minilm\. Received: "
    with pytest.raises(CheckpointError, match=f"{message}x"):
        load_sentence_encoder("x")
    with pytest.raises(CheckpointError, match=message):
        load_sentence_encoder("clip-rn50")
    assert is_sentence_encoder("minilm")
    assert is_sentence_encoder(tmp_path)
    assert not is_sentence_encoder("clip-rn50")
    assert not is_sentence_encoder("hub:clip")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The registered sentence encoder, with a small one's files; none of them is in a package."""
    directory = tmp_path / "published"
    directory.mkdir()
    write_sentence_encoder(directory)
    files = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()
    }
    entry = registry.REGISTRY["minilm"]
    values = {**vars(entry), "sha256": files.pop("model.safetensors"), "companions": files}
    monkeypatch.setitem(
        registry.REGISTRY, "minilm", registry.Entry(**{**values, "package": PACKAGE})
    )
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    return directory


def test_registered_name_is_downloaded_with_its_digests(published, tmp_path, monkeypatch):
    def download(url, path, sha256, progress):
        source = published / url.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        assert sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        return sha256

    monkeypatch.setattr(registry, "download", download)
    np.testing.assert_array_equal(embed("minilm"), embed(published))
    names = {file.name for file in (tmp_path / "cache/checkpoints/minilm").iterdir()}
    assert names == {"config.json", "vocab.txt", "model.safetensors"}


def test_failed_download_is_reported(published, monkeypatch):
    def download(*args, **kwargs):
        raise DownloadError("no network")

    monkeypatch.setattr(registry, "download", download)
    assert refusal("minilm") == "minilm cannot be fetched: no network"


def test_installed_package_spares_the_download(published, tmp_path, monkeypatch):
    package = tmp_path / "site" / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    published.rename(package / "model")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert registry.fetch("minilm") == package / "model" / "model.safetensors"
    np.testing.assert_array_equal(embed("minilm"), embed(package / "model"))
    (package / "model" / "config.json").write_text("{}")
    assert f"of the package {PACKAGE} is not the published file" in refusal("minilm")


def test_every_companion_has_an_address():
    for entry in registry.REGISTRY.values():
        if entry.companions:
            assert entry.url.endswith(f"/{entry.path.name}")
