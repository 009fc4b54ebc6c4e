"""Published sentence encoders: encoder, weights and tokenizer from one directory."""

import json
from pathlib import Path
from typing import Any

from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.checkpoints.loading import load_text_checkpoint
from semanticac_keras.checkpoints.registry import REGISTRY, resolve_directory
from semanticac_keras.checkpoints.stored import CheckpointError
from semanticac_keras.subword_tokenizer import SubwordTokenizer, TokenizerError

_CLAP = "clap"
_ROBERTA = ("roberta", "xlm-roberta")
_KINDS = ("bert", *_ROBERTA, _CLAP)
# Hugging Face's library leaves these values of CLAP's text tower out of a file.
_CLAP_DEFAULTS = {
    "vocab_size": 50_265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "layer_norm_eps": 1e-12,
}
_SIZES = {
    "vocabulary_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "num_token_types": "type_vocab_size",
}
_MODULES = {"Transformer", "Pooling", "Normalize"}
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def is_sentence_encoder(source: str | Path) -> bool:
    """Return whether a source is a directory, or the name of a registered one."""
    if isinstance(source, str) and source in REGISTRY:
        return bool(REGISTRY[source].companions)
    return Path(source).expanduser().is_dir()


def load_sentence_encoder(
    source: str | Path, output_dim: int | None = None, frozen: bool = True
) -> tuple[BertEncoder, SubwordTokenizer]:
    """Create a text encoder of the BERT family with its published weights, and its tokenizer.

    Args:
        source: `"minilm"`, or a directory as published at Hugging Face, with `config.json`,
            `model.safetensors` or `pytorch_model.bin`, and the tokenizer's files: BERT, RoBERTa,
            sentence encoders made from them, or CLAP, of which the text tower is read.
        output_dim: size C of the shared embedding space, reached by a new linear projection; None
            is no projection.
        frozen: keep all weights but the projection's as they are, and compute in float32 whatever
            the global policy.

    Raises:
        CheckpointError: if files are not available or damaged, or are of another kind of model.
    """
    directory = resolve_directory(source)
    arguments = encoder_arguments(directory)
    try:
        tokenizer = SubwordTokenizer.from_directory(
            directory, _longest_text(directory, arguments["context_length"])
        )
    except TokenizerError as error:
        raise CheckpointError(str(error)) from error
    if tokenizer.vocabulary_size > arguments["vocabulary_size"]:
        raise CheckpointError(
            f"{directory}: the tokenizer must have at most {arguments['vocabulary_size']} tokens, "
            f"as config.json says. Received: {tokenizer.vocabulary_size}"
        )
    arguments |= {"pad_id": tokenizer.pad_id, "output_dim": output_dim, "frozen": frozen}
    if frozen:  # it runs once for each baking of the labels, so that less precision saves nothing
        arguments["dtype"] = "float32"
    try:
        encoder = BertEncoder(**arguments, name="text_encoder")
    except ValueError as error:
        raise CheckpointError(f"{directory / 'config.json'} fits no encoder: {error}") from error
    load_text_checkpoint(encoder, directory)
    return encoder, tokenizer


def encoder_arguments(directory: Path) -> dict[str, Any]:
    """Read the size of an encoder, as arguments of `BertEncoder`.

    Args:
        directory: has `config.json`.

    Raises:
        CheckpointError: if the file is not available or damaged, or describes another model.
    """
    file = directory / "config.json"
    config = _read(file)
    kind = _choice(file, config, "model_type", _KINDS)
    pooling, mlp_dim = _pooling(directory), None
    if kind == _CLAP:
        _choice(file, config, "projection_hidden_act", ("relu",), "relu")
        pooling, mlp_dim = "pooler", config.get("projection_dim", 512)
        config = {**_CLAP_DEFAULTS, **config.get("text_config", {})}
    _choice(file, config, "hidden_act", ("gelu",), "gelu")
    _choice(file, config, "position_embedding_type", ("absolute",), "absolute")
    offset = 0 if kind == "bert" else _size(file, config, "pad_token_id") + 1
    return {
        **{argument: _size(file, config, key) for argument, key in _SIZES.items()},
        "context_length": _size(file, config, "max_position_embeddings") - offset,
        "position_offset": offset,
        "epsilon": float(config.get("layer_norm_eps", 1e-12)),
        "pooling": pooling,
        "mlp_dim": mlp_dim,
    }


def _pooling(directory: Path) -> str:
    """Read the pooling of a sentence encoder; the mean, unless its files say otherwise."""
    file = directory / "modules.json"
    if not file.is_file():
        return "mean"
    modules = _parsed(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{file} must hold a list of objects. Received: {modules!r:.40}")
    paths = {str(module.get("type")).split(".")[-1]: module.get("path") for module in modules}
    if "Pooling" not in paths or not paths.keys() <= _MODULES:
        raise CheckpointError(
            f"{file} must have the module Pooling, and no others but Transformer and Normalize. "
            f"Received: {', '.join(paths) or 'none'}"
        )
    file = directory / str(paths["Pooling"]) / "config.json"
    modes = [
        key for key, used in _read(file).items() if key.startswith("pooling_") and used is True
    ]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(
            f"{file} must have one of {', '.join(_POOLINGS)}. Received: {', '.join(modes)}"
        )
    return _POOLINGS[modes[0]]


def _longest_text(directory: Path, context_length: int) -> int:
    """Tokens of the longest text that the encoder was made for."""
    file = directory / "sentence_bert_config.json"
    if not file.is_file():
        return context_length
    config = {"max_seq_length": context_length, **_read(file)}
    return min(context_length, _size(file, config, "max_seq_length"))


def _read(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    value = _parsed(file)
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} must hold an object. Received: {value!r:.40}")
    return value


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def _size(file: Path, config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{file}: `{key}` must be a positive integer. Received: {value}")
    return value


def _choice(
    file: Path, config: dict[str, Any], key: str, choices: tuple[str, ...], default: str = ""
) -> str:
    value = config.get(key, default)
    if value not in choices:
        raise CheckpointError(
            f"{file}: `{key}` must be {' or '.join(choices)}. Received: {value or 'none'}"
        )
    return value
