"""A whole CLAP comes from one directory; anything else is refused in one line."""

import hashlib
import json

import keras
import numpy as np
import pytest

from semanticac_keras import CSCM, AudioTower, SemanticAC, SubwordTokenizer
from semanticac_keras.checkpoints import CheckpointError, load_audio_checkpoint, registry
from tests.bert_files import write_weights
from tests.clap_files import CONFIG, FRONT_END, LOG_SCALE, PREPROCESSOR, write_clap

pytest.importorskip("tokenizers")

LABELS = ("dog", "rain")
FUSION = "audio_model.audio_encoder.patch_embed.fusion_model.local_att.0.weight"
TABLE = "audio_branch.layers.0.blocks.0.attn.relative_position_bias_table"


def refusal(source):
    with pytest.raises(CheckpointError) as caught:
        SemanticAC.from_pretrained(source, LABELS)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_front_end_scale_and_prompt_are_the_published(tmp_path):
    write_clap(tmp_path)
    model = SemanticAC.from_pretrained(tmp_path, LABELS)
    assert model.front_end == FRONT_END
    assert float(keras.ops.convert_to_numpy(model.logit_scale)) == LOG_SCALE
    assert model.prompts == ("This is a sound of dog.", "This is a sound of rain.")
    other = SemanticAC.from_pretrained(str(tmp_path / "model.safetensors"), LABELS, "{label}!")
    assert other.prompts == ("dog!", "rain!")


def test_short_waveforms_are_repeated_whole(tmp_path):
    write_clap(tmp_path)
    tower = SemanticAC.from_pretrained(tmp_path, LABELS).audio_tower
    copy = AudioTower.from_config(tower.get_config())
    windows, _ = copy.windows_of([np.full(2000, 0.5, np.float32)])
    assert windows[0, :4000].all()
    assert not windows[0, 4000:].any()


def test_another_head_takes_the_audio_encoder(tmp_path):
    write_clap(tmp_path)
    clap = SemanticAC.from_pretrained(tmp_path, LABELS)
    tower = AudioTower(clap.front_end, clap.audio_tower.encoder, CSCM(6, hidden_dim=4, reduction=2))
    model = SemanticAC(tower, clap.text_encoder, clap.tokenizer, LABELS, clap.prompt)
    embedding = model.encode_audio(np.full((1, 5120), 0.1, np.float32))
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("logit_scale_a", None, "`logit_scale_a` is missing"),
        ("logit_scale_a", np.ones(2), "`logit_scale_a` has shape (2,), expected ()"),
        ("logit_scale_a", np.array(np.nan), "`logit_scale_a` must be finite"),
        ("text_projection.linear2.bias", None, "`text_projection.linear2.bias` is missing"),
        ("audio_projection.linear3.bias", np.ones(6), "linear3.bias` is unexpected"),
        ("text_model.encoder.layer.1.output.dense.bias", np.ones(64), "is unexpected"),
        (FUSION, np.ones(2), f"its audio branch has feature fusion (`{FUSION}`)"),
        (
            "audio_model.audio_encoder.patch_embed.proj.weight",
            None,
            "no weights named as in LAION-CLAP or Hugging Face CLAP",
        ),
    ],
)
def test_each_mismatch_of_weights_is_reported(key, value, message, tmp_path):
    state = write_clap(tmp_path)
    if value is None:
        del state[key]
    else:
        state[key] = value
    write_weights(state, tmp_path)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (None, {"model_type": "clip"}, "`model_type` must be clap. Received: clip"),
        (None, {"projection_hidden_act": "gelu"}, "`projection_hidden_act` must be relu"),
        (None, {"projection_dim": 0}, "`projection_dim` must be a positive integer"),
        ("audio_config", {"enable_fusion": True}, "`enable_fusion` must be false"),
        ("audio_config", {"qkv_bias": False}, "`qkv_bias` must be True. Received: False"),
        ("audio_config", {"patch_stride": [2, 2]}, "`patch_stride` must be [4, 4]"),
        ("audio_config", {"depths": 2}, "`depths` must be a list of integers. Received: 2"),
        ("audio_config", {"depths": [1, 1]}, "fits no encoder: `depths` and `num_heads`"),
        ("audio_config", {"num_mel_bins": 0}, "`num_mel_bins` must be a positive integer"),
        ("audio_config", {"mlp_ratio": None}, "config.json fits no encoder"),
        (None, {"audio_config": [1]}, "`audio_config` must be an object. Received: [1]"),
        (None, {"text_config": "x"}, "`text_config` must be an object. Received: 'x'"),
        ("text_config", {"hidden_act": "relu"}, "`hidden_act` must be gelu"),
        ("text_config", {"vocab_size": 9}, "the tokenizer must have at most 9 tokens"),
    ],
)
def test_each_unsuitable_setting_is_reported(part, changes, message, tmp_path):
    write_clap(tmp_path)
    config = json.loads(json.dumps(CONFIG))
    (config[part] if part else config).update(changes)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert message in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncation": "fusion"}, "`truncation` must be rand_trunc. Received: fusion"),
        ({"padding": "pad"}, "`padding` must be repeatpad. Received: pad"),
        ({"hop_length": "100"}, "preprocessor_config.json describes no front end"),
        ({"max_length_s": 10}, "fits no encoder: `num_frames` must be at most"),
    ],
)
def test_each_unsuitable_front_end_is_reported(changes, message, tmp_path):
    write_clap(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({**PREPROCESSOR, **changes}))
    assert message in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json cannot be read: No such file"),
        ("vocab.txt", None, "must have tokenizer.json, vocab.txt, or vocab.json and merges.txt"),
        ("model.safetensors", None, "must have model.safetensors or pytorch_model.bin"),
        ("model.safetensors", "<html>", "a web page, not a checkpoint"),
    ],
)
def test_each_missing_or_damaged_file_is_reported(name, content, message, tmp_path):
    write_clap(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    assert message in refusal(tmp_path)


def test_truncated_weights_are_refused(tmp_path):
    write_clap(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "damaged: the byte range of" in refusal(tmp_path)


@pytest.mark.parametrize("source", ["clap-htsat-fused", "laion/clap-htsat-fused"])
def test_fused_model_is_refused_by_name(source):
    assert "its audio branch has feature fusion (`enable_fusion`)" in refusal(source)


def test_fused_audio_encoder_is_refused(tmp_path):
    state = write_clap(tmp_path)
    write_weights(state | {FUSION: np.ones(2, np.float32)}, tmp_path)
    model = SemanticAC.from_preset("tiny", LABELS, conv_stem=False)
    with pytest.raises(CheckpointError, match="its audio branch has feature fusion"):
        load_audio_checkpoint(model.audio_tower.encoder, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("text_projection.2.bias", None, "incomplete: `module.text_projection.2.bias` is missing"),
        ("text_projection.2.bias", np.ones((6, 1)), "must have 1 axes. Received: shape (6, 1)"),
        (TABLE, None, f"incomplete: `module.{TABLE}` is missing"),
        ("audio_transform.0.bias", np.ones(2), "`module.audio_branch.bn0.weight` has shape (16,)"),
    ],
)
def test_each_mismatch_of_laion_s_weights_is_reported(key, value, message, tmp_path):
    state = write_clap(tmp_path, "LAION-CLAP")
    state.pop(f"module.{key}", None)
    if value is not None:
        state[f"module.{key}"] = value
    (tmp_path / "preprocessor_config.json").unlink()
    write_weights(state, tmp_path)
    assert message in refusal(tmp_path)


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """The registered name, with a small model's files, and the digests asked for in downloads."""
    directory, digests = tmp_path / "published", []
    directory.mkdir()
    write_clap(directory)
    tokenizer = SubwordTokenizer.from_directory(directory)
    (directory / "tokenizer.json").write_text(tokenizer.definition)

    def download(url, path, sha256, progress):
        content = (directory / url.rpartition("/")[2].replace(".bin", ".st")).read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digests.append(sha256)
        return hashlib.sha256(content).hexdigest()

    (directory / "model.safetensors").rename(directory / "pytorch_model.st")
    monkeypatch.setattr(registry, "download", download)
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    return directory, digests


def test_registered_files_are_trusted_once_then_pinned(registered):
    directory, digests = registered
    with pytest.warns(UserWarning, match="no digest of clap-htsat-unfused is published") as caught:
        registry.fetch("clap-htsat-unfused")
    assert len(caught) == len(digests) == 4
    assert not any(digests)
    model = SemanticAC.from_pretrained("clap-htsat-unfused", LABELS)  # a warning is an error
    file = directory / "config.json"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in digests[4:]
    assert model.front_end == FRONT_END


def test_a_web_page_instead_of_settings_is_not_trusted(registered):
    directory, digests = registered
    (directory / "config.json").write_text("<html>")
    for _ in range(2):
        assert "config.json is damaged" in refusal("clap-htsat-unfused")
    assert digests == [None, None]


def test_wrong_labels_are_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="`labels` must be distinct"):
        SemanticAC.from_pretrained("no-such-file", ["dog", "dog"])
