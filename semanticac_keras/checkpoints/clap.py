"""Published CLAP models: both towers, the tokenizer and the logit scale from one directory."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from edge.inference.frontend import FrontEnd
from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.checkpoints.files import open_checkpoint
from semanticac_keras.checkpoints.layouts import CLAP_LAYOUTS, LAION_CLAP
from semanticac_keras.checkpoints.loading import (
    Match,
    assign,
    expect_no_fusion,
    find_layout,
    match_clap,
    values_of,
)
from semanticac_keras.checkpoints.registry import resolve
from semanticac_keras.checkpoints.sentence import clap_text_arguments, read_tokenizer
from semanticac_keras.checkpoints.settings import choice, read_settings, section, size
from semanticac_keras.checkpoints.stored import CheckpointError, CheckpointFile
from semanticac_keras.heads import PooledMLP
from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.subword_tokenizer import SubwordTokenizer

_FUSED = "clap-htsat-fused"
# Hugging Face's library leaves these values of CLAP's audio tower out of a file.
_AUDIO_DEFAULTS = {
    "num_mel_bins": 64,
    "spec_size": 256,
    "patch_size": 4,
    "patch_embeds_hidden_size": 96,
    "depths": [2, 2, 6, 2],
    "num_attention_heads": [4, 8, 16, 32],
    "window_size": 8,
    "mlp_ratio": 4.0,
}
# The only supported values, which are also the defaults.
_AUDIO_FIXED: dict[str, Any] = {
    "hidden_act": "gelu",
    "enable_patch_layer_norm": True,
    "flatten_patch_embeds": True,
    "patch_embed_input_channels": 1,
    "qkv_bias": True,
    "layer_norm_eps": 1e-5,
}
FRONT_END = FrontEnd(sample_rate_hz=48_000, hop_length=480)
_FRONT_END_KEYS = {
    "sample_rate_hz": "sampling_rate",
    "n_fft": "fft_window_size",
    "hop_length": "hop_length",
    "num_mels": "feature_size",
    "fmin_hz": "frequency_min",
    "fmax_hz": "frequency_max",
    "window_seconds": "max_length_s",
}
_ROBERTA_HEAD_CHANNELS = 64


@dataclass(frozen=True)
class Clap:
    """Parts of a published CLAP model.

    Args:
        audio_tower: HTS-AT with its front end and its MLP.
        text_encoder: RoBERTa with its MLP, frozen.
        tokenizer: RoBERTa's.
        log_scale: logarithm of the factor from cosines to an audio clip's logits.
    """

    audio_tower: AudioTower
    text_encoder: BertEncoder
    tokenizer: SubwordTokenizer
    log_scale: float


def load_clap(source: str | Path, tokenizer: SubwordTokenizer | None = None) -> Clap:
    """Create both towers of a CLAP model without fusion, with its published weights.

    Args:
        source: `"clap-htsat-unfused"`; a directory as published at Hugging Face, with
            `config.json`, `model.safetensors` or `pytorch_model.bin`, the tokenizer's files, and
            perhaps `preprocessor_config.json`; or a file of weights in such a directory. A `.pt` of
            LAION needs the tokenizer's files alone.
        tokenizer: RoBERTa's, if the source has no files of it.

    Raises:
        CheckpointError: if files are not available or damaged, or are of another kind of model,
            such as CLAP with feature fusion.
    """
    if str(source).rstrip("/").endswith(_FUSED):
        raise CheckpointError(
            f"{source} cannot be loaded: its audio branch has feature fusion (`enable_fusion`), "
            "which HTS-AT has not. Use clap-htsat-unfused"
        )
    path = resolve(source)
    settings, config = _config(path)
    text = clap_text_arguments(settings, config)
    if tokenizer is None:
        tokenizer = read_tokenizer(path.parent, text["context_length"], text["vocabulary_size"])
    text["pad_id"] = tokenizer.pad_id
    parts = tower, text_encoder, log_scale = _parts(path, settings, config, text)
    with open_checkpoint(path) as file:
        values = values_of(file, match_clap(*parts, file))
    assign(values)
    return Clap(tower, text_encoder, tokenizer, float(ops.convert_to_numpy(log_scale)))


def match_clap_file(path: Path) -> Match:
    """Match a file with the CLAP model that it is of, without its tokenizer.

    Args:
        path: file of weights, as for `load_clap`.

    Raises:
        CheckpointError: if files are not available or damaged, or are of another kind of model.
    """
    settings, config = _config(path)
    parts = _parts(path, settings, config, clap_text_arguments(settings, config))
    with open_checkpoint(path) as file:
        return match_clap(*parts, file)


def _parts(
    path: Path, settings: Path, config: dict[str, Any], text: dict[str, Any]
) -> tuple[AudioTower, BertEncoder, keras.Variable]:
    """Create both towers, and the variable of the logit scale, with random weights.

    Args:
        path: file of weights.
        settings: file that `config` was read from.
        config: sizes of the model.
        text: arguments of its text encoder.
    """
    front_end = _front_end(path.with_name("preprocessor_config.json"))
    try:
        audio = _audio_arguments(settings, config, front_end)
        encoder = HTSATEncoder(**audio, name="audio_encoder")
        head = PooledMLP(text["mlp_dim"], name="pooled_mlp")
        tower = AudioTower(front_end, encoder, head, whole_repeats=True, name="audio")
        # It runs once for each baking of the labels, so that less precision saves nothing.
        text_encoder = BertEncoder(**text, frozen=True, dtype="float32", name="text_encoder")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{settings} fits no encoder: {error}") from error
    return tower, text_encoder, keras.Variable(0.0, dtype="float32", trainable=False)


def _config(path: Path) -> tuple[Path, dict[str, Any]]:
    """Read the sizes of a model as in Hugging Face's `config.json`, and name their file."""
    with open_checkpoint(path) as file:
        expect_no_fusion(file)
        layout, prefix = find_layout(file, CLAP_LAYOUTS)
        if layout is LAION_CLAP:
            return path, _laion_config(file, prefix)
    settings = path.with_name("config.json")
    config = read_settings(settings)
    choice(settings, config, "model_type", ("clap",))
    return settings, config


def _audio_arguments(file: Path, config: dict[str, Any], front_end: FrontEnd) -> dict[str, Any]:
    """Read the size of an audio encoder, as arguments of `HTSATEncoder`."""
    audio = {**_AUDIO_DEFAULTS, **section(file, config, "audio_config")}
    if audio.get("enable_fusion"):
        raise CheckpointError(
            f"{file}: `enable_fusion` must be false, because HTS-AT has no feature fusion. "
            "Use clap-htsat-unfused"
        )
    patch = size(file, audio, "patch_size")
    for key, value in {**_AUDIO_FIXED, "patch_stride": [patch, patch]}.items():
        if audio.get(key, value) != value:
            raise CheckpointError(f"{file}: `{key}` must be {value}. Received: {audio[key]}")
    mels, side = size(file, audio, "num_mel_bins"), size(file, audio, "spec_size")
    return {
        "num_frames": front_end.num_frames,
        "num_mels": mels,
        "num_chunks": side // mels,
        "chunk_frames": side,
        "patch_size": patch,
        "embed_dim": size(file, audio, "patch_embeds_hidden_size"),
        "depths": _sizes(file, audio, "depths"),
        "num_heads": _sizes(file, audio, "num_attention_heads"),
        "window_size": size(file, audio, "window_size"),
        "mlp_ratio": float(audio["mlp_ratio"]),
    }


def _sizes(file: Path, config: dict[str, Any], key: str) -> tuple[int, ...]:
    values = config[key]
    if not isinstance(values, list) or not values:
        raise CheckpointError(f"{file}: `{key}` must be a list of integers. Received: {values}")
    return tuple(size(file, {key: value}, key) for value in values)


def _front_end(file: Path) -> FrontEnd:
    """Read the front end, if the model has a file of it; CLAP's otherwise."""
    if not file.is_file():
        return FRONT_END
    config = read_settings(file)
    choice(file, config, "truncation", ("rand_trunc",), "rand_trunc")
    choice(file, config, "padding", ("repeatpad",), "repeatpad")
    values = FRONT_END.to_json()
    values |= {name: config[key] for name, key in _FRONT_END_KEYS.items() if key in config}
    try:
        return FrontEnd.from_json(values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file} describes no front end: {error}") from error


def _laion_config(file: CheckpointFile, prefix: str) -> dict[str, Any]:
    """Derive the sizes of a LAION checkpoint, which has no settings, from its weights."""

    def shape(key: str, axes: int) -> tuple[int, ...]:
        stored = file.tensors.get(f"{prefix}{key}")
        if stored is None:
            raise CheckpointError(f"LAION-CLAP weights are incomplete: `{prefix}{key}` is missing")
        if len(stored.shape) != axes:
            raise CheckpointError(
                f"`{prefix}{key}` must have {axes} axes. Received: shape {stored.shape}"
            )
        return stored.shape

    def count(key: str) -> int:
        return _count(file.tensors, f"{prefix}{key}.")

    layers, table = "audio_branch.layers", "attn.relative_position_bias_table"
    stages = [f"{layers}.{stage}.blocks" for stage in range(count(layers))]
    embeddings, text_layers = "text_branch.embeddings", "text_branch.encoder.layer"
    vocabulary, width = shape(f"{embeddings}.word_embeddings.weight", 2)
    return {
        "projection_dim": shape("text_projection.2.bias", 1)[0],
        "audio_config": {
            "patch_embeds_hidden_size": shape("audio_branch.patch_embed.proj.bias", 1)[0],
            "depths": [count(stage) for stage in stages],
            "num_attention_heads": [shape(f"{stage}.0.{table}", 2)[1] for stage in stages],
        },
        "text_config": {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "num_hidden_layers": count(text_layers),
            "num_attention_heads": max(1, width // _ROBERTA_HEAD_CHANNELS),
            "intermediate_size": shape(f"{text_layers}.0.intermediate.dense.bias", 1)[0],
            "max_position_embeddings": shape(f"{embeddings}.position_embeddings.weight", 2)[0],
            "layer_norm_eps": 1e-5,
        },
    }


def _count(keys: Iterable[str], start: str) -> int:
    """Count the children of a module that are numbered."""
    return len({key.removeprefix(start).split(".")[0] for key in keys if key.startswith(start)})
