"""Published sentence encoders: encoder, weights and tokenizer from one directory."""

from pathlib import Path
from typing import Any

from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.checkpoints.loading import load_text_checkpoint
from semanticac_keras.checkpoints.registry import REGISTRY, resolve_directory
from semanticac_keras.checkpoints.settings import (
    choice,
    read_json,
    read_settings,
    section,
    size,
)
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
    tokenizer = read_tokenizer(
        directory,
        _longest_text(directory, arguments["context_length"]),
        arguments["vocabulary_size"],
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


def read_tokenizer(directory: Path, context_length: int, vocabulary_size: int) -> SubwordTokenizer:
    """Read the tokenizer of an encoder.

    Args:
        directory: has the tokenizer's files.
        context_length: maximum tokens of a text.
        vocabulary_size: number of token ids that the encoder knows.

    Raises:
        CheckpointError: if the files are not available or damaged, or have more tokens.
    """
    try:
        tokenizer = SubwordTokenizer.from_directory(directory, context_length)
    except TokenizerError as error:
        raise CheckpointError(str(error)) from error
    if tokenizer.vocabulary_size > vocabulary_size:
        raise CheckpointError(
            f"{directory}: the tokenizer must have at most {vocabulary_size} tokens, as the "
            f"encoder has. Received: {tokenizer.vocabulary_size}"
        )
    return tokenizer


def encoder_arguments(directory: Path) -> dict[str, Any]:
    """Read the size of an encoder, as arguments of `BertEncoder`.

    Args:
        directory: has `config.json`.

    Raises:
        CheckpointError: if the file is not available or damaged, or describes another model.
    """
    file = directory / "config.json"
    config = read_settings(file)
    kind = choice(file, config, "model_type", _KINDS)
    if kind == _CLAP:
        return clap_text_arguments(file, config)
    return {**_arguments(file, config, kind), "pooling": _pooling(directory)}


def clap_text_arguments(file: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Read the size of CLAP's text tower, as arguments of `BertEncoder`.

    Args:
        file: file that the settings are from, for messages.
        config: content of CLAP's `config.json`.

    Raises:
        CheckpointError: if a value is not supported.
    """
    choice(file, config, "projection_hidden_act", ("relu",), "relu")
    text = {**_CLAP_DEFAULTS, **section(file, config, "text_config")}
    return {
        **_arguments(file, text, _CLAP),
        "pooling": "pooler",
        "mlp_dim": size(file, {"projection_dim": 512, **config}, "projection_dim"),
    }


def _arguments(file: Path, config: dict[str, Any], kind: str) -> dict[str, Any]:
    choice(file, config, "hidden_act", ("gelu",), "gelu")
    choice(file, config, "position_embedding_type", ("absolute",), "absolute")
    offset = 0 if kind == "bert" else size(file, config, "pad_token_id") + 1
    return {
        **{argument: size(file, config, key) for argument, key in _SIZES.items()},
        "context_length": size(file, config, "max_position_embeddings") - offset,
        "position_offset": offset,
        "epsilon": float(config.get("layer_norm_eps", 1e-12)),
    }


def _pooling(directory: Path) -> str:
    """Read the pooling of a sentence encoder; the mean, unless its files say otherwise."""
    file = directory / "modules.json"
    if not file.is_file():
        return "mean"
    modules = read_json(file)
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
        key
        for key, used in read_settings(file).items()
        if key.startswith("pooling_") and used is True
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
    config = {"max_seq_length": context_length, **read_settings(file)}
    return min(context_length, size(file, config, "max_seq_length"))
