"""Loading accounts for every key of a checkpoint, and fills an encoder completely or not at all."""

import hashlib
import sys
import warnings

import keras
import numpy as np
import pytest

from semanticac_keras import HTSATEncoder, TextEncoder
from semanticac_keras.checkpoints import (
    CheckpointError,
    load_audio_checkpoint,
    load_text_checkpoint,
    registry,
)
from semanticac_keras.checkpoints.slots import audio_constants, audio_slots, text_slots
from semanticac_keras.download import DownloadError

safetensors_numpy = pytest.importorskip("safetensors.numpy")


@pytest.fixture(scope="module")
def encoder():
    return HTSATEncoder(
        num_frames=61,
        num_mels=16,
        num_chunks=1,
        chunk_frames=64,
        patch_size=2,
        embed_dim=8,
        depths=(2, 1),
        num_heads=(2, 4),
    )


@pytest.fixture
def audio_state(encoder):
    """Random weights for the encoder, named as in HTS-AT, with its other entries."""
    state = {f"sed_model.{key}": value for key, value in random_state(audio_slots(encoder)).items()}
    constants = audio_constants(encoder).items()
    state |= {f"sed_model.{key}": value.astype(value.dtype) for key, value in constants}
    state["sed_model.head.weight"] = np.ones((5, 5), np.float32)
    state["sed_model.bn0.num_batches_tracked"] = np.array(3)
    return state


@pytest.fixture(scope="module")
def text_encoder():
    return TextEncoder(
        vocabulary_size=30, context_length=6, width=8, num_layers=1, num_heads=2, output_dim=4
    )


def random_state(slots):
    rng = np.random.default_rng(0)
    return {slot.key: rng.normal(size=slot.shape).astype(np.float32) for slot in slots}


def weights_of(encoder):
    return [keras.ops.convert_to_numpy(variable.value) for variable in encoder.weights]


def save(state, directory):
    contiguous = {key: np.ascontiguousarray(value) for key, value in state.items()}
    safetensors_numpy.save_file(contiguous, directory / "weights.safetensors")
    return directory / "weights.safetensors"


def refusal(load, encoder, state, directory):
    """Return the error message; assert that the encoder stays unchanged."""
    before = weights_of(encoder)
    with pytest.raises(CheckpointError) as caught:
        load(encoder, save(state, directory))
    for old, new in zip(before, weights_of(encoder), strict=True):
        np.testing.assert_array_equal(old, new)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_variable_is_filled(encoder, text_encoder, audio_state, tmp_path):
    for model in (encoder, text_encoder):
        for variable in model.weights:
            variable.assign(np.full(variable.shape, np.nan, np.float32))
    load_audio_checkpoint(encoder, save(audio_state, tmp_path))
    load_text_checkpoint(text_encoder, save(random_state(text_slots(text_encoder)), tmp_path))
    for model in (encoder, text_encoder):
        assert all(np.isfinite(weight).all() for weight in weights_of(model))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("norm.bias", None, "`sed_model.norm.bias` is missing"),
        ("fusion.weight", np.ones(2), "`sed_model.fusion.weight` is unexpected"),
        ("norm.bias", np.ones(3), "`sed_model.norm.bias` has shape (3,), expected (16,)"),
        ("norm.bias", np.ones(16, int), "dtype int64, expected floating point"),
        ("norm.bias", np.full(16, np.nan), "`sed_model.norm.bias` must be finite"),
        (
            "layers.0.blocks.0.attn.relative_position_index",
            np.zeros((64, 64), int),
            "attention windows",
        ),
        ("layers.0.blocks.1.attn_mask", np.zeros((4, 64, 64)), "attention windows"),
    ],
)
def test_each_mismatch_is_reported(key, value, message, encoder, audio_state, tmp_path):
    if value is None:
        del audio_state[f"sed_model.{key}"]
    else:
        audio_state[f"sed_model.{key}"] = value
    assert message in refusal(load_audio_checkpoint, encoder, audio_state, tmp_path)


def test_eight_mismatches_are_listed_and_the_others_counted(encoder, audio_state, tmp_path):
    audio_state |= {f"sed_model.extra.{i}": np.ones(1) for i in range(11)}
    message = refusal(load_audio_checkpoint, encoder, audio_state, tmp_path)
    assert message.count("is unexpected") == 8
    assert message.endswith("and 3 more")


def test_file_without_the_tower_is_refused(encoder, text_encoder, audio_state, tmp_path):
    message = refusal(load_text_checkpoint, text_encoder, audio_state, tmp_path)
    assert "no weights named as in CLIP (OpenAI, open_clip) or Hugging Face CLIP" in message
    assert "`sed_model." in message
    assert "no tensors" in refusal(load_audio_checkpoint, encoder, {}, tmp_path)


def test_first_positions_of_a_longer_context_are_used(text_encoder, tmp_path):
    state = random_state(text_slots(text_encoder))
    state["positional_embedding"] = np.arange(7 * 8, dtype=np.float32).reshape(7, 8)
    load_text_checkpoint(text_encoder, save(state, tmp_path))
    positions = keras.ops.convert_to_numpy(text_encoder.positional_embedding.value)
    np.testing.assert_array_equal(positions, state["positional_embedding"][:6])


@pytest.mark.parametrize("shape", [(5, 8), (7, 9)])
def test_positions_of_another_shape_are_refused(shape, text_encoder, tmp_path):
    state = random_state(text_slots(text_encoder))
    state["positional_embedding"] = np.ones(shape, np.float32)
    message = refusal(load_text_checkpoint, text_encoder, state, tmp_path)
    assert f"has shape {shape}, expected (6, 8)" in message


def test_unknown_source_lists_the_registered_names(encoder):
    with pytest.raises(CheckpointError, match="must be a file or one of htsat-audioset, clap"):
        load_audio_checkpoint(encoder, "htsat")


def test_missing_keras_hub_is_reported_with_its_extra(text_encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install 'semanticac-keras\[hub\]'"):
        load_text_checkpoint(text_encoder, "hub:clip_vit_base_patch32")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_manual_download_is_explained_then_trusted_then_pinned(cache, audio_state, tmp_path):
    with pytest.raises(CheckpointError, match=r"fetched by hand: open https://drive\.google"):
        registry.fetch("htsat-audioset")
    file = cache / "htsat-audioset.ckpt"
    file.write_text("<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match="a web page"):
        registry.fetch("htsat-audioset")
    file.write_bytes(save(audio_state, tmp_path).read_bytes())
    with pytest.warns(UserWarning, match="no digest of htsat-audioset is published"):
        assert registry.fetch("htsat-audioset") == file
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.fetch("htsat-audioset")
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="must have the SHA-256"):
        registry.fetch("htsat-audioset")


def test_registered_name_is_downloaded_with_its_digest(cache, text_encoder, monkeypatch, tmp_path):
    def download(url, path, sha256, progress):
        assert sha256 in url
        path.write_bytes(save(random_state(text_slots(text_encoder)), tmp_path).read_bytes())
        return sha256

    monkeypatch.setattr(registry, "download", download)
    load_text_checkpoint(text_encoder, "clip-rn50")
    assert (cache / "clip-rn50.pt").is_file()


def test_a_tagger_is_pinned_on_first_use(cache, monkeypatch):
    def download(url, path, sha256, progress):
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    monkeypatch.setattr(registry, "download", download)
    content = b"<!DOCTYPE html>"
    with pytest.raises(CheckpointError, match=r"yamnet\.tflite is not a TFLite file"):
        registry.resolve("yamnet")
    content = b"\x1c\0\0\0TFL3"
    with pytest.warns(UserWarning, match="no digest of yamnet is published"):
        assert registry.resolve("yamnet") == cache / "yamnet.tflite"
    assert registry.is_tagger("yamnet")
    assert registry.is_tagger("own/birds.tflite")
    assert not registry.is_tagger("clap-htsat-unfused")


def test_failed_download_is_reported(cache, encoder, monkeypatch):
    def download(*args, **kwargs):
        raise DownloadError("no network")

    monkeypatch.setattr(registry, "download", download)
    with pytest.raises(CheckpointError, match="clap-htsat-unfused cannot be fetched: no network"):
        load_audio_checkpoint(encoder, "clap-htsat-unfused")
