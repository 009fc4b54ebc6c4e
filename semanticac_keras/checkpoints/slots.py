"""Slots: an encoder's weights by their names in the original code.

A `Slot` is one weight: its name and shape in the code of HTS-AT, OpenAI's CLIP or BERT, and the
conversion to the Keras variable. PyTorch stores dense kernels as (out, in), Keras as (in, out).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.checkpoints.stored import Array
from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.swin import SwinBlock
from semanticac_keras.text_encoder import TextEncoder

AUDIO_BRANCH = "audio_branch"


def _as_is(values: Array) -> Array:
    return values


@dataclass(frozen=True)
class Slot:
    """Weight of an encoder, with its counterpart in the original code.

    Args:
        key: name in the original code.
        shape: shape in the original code.
        variable: `keras.Variable` of the encoder.
        arrange: conversion from the original values to the variable's.
        first_rows: whether the original may have more rows, of which the first are used.
    """

    key: str
    shape: tuple[int, ...]
    variable: Any
    arrange: Callable[[Array], Array] = _as_is
    first_rows: bool = False


def audio_slots(encoder: HTSATEncoder) -> list[Slot]:
    """List the weights of an audio encoder, named as in HTS-AT."""
    norm, patch = encoder.mel_norm, encoder.patch_size
    channels = encoder.embed_dim
    slots = [
        _vector("bn0.weight", norm.gamma),
        _vector("bn0.bias", norm.beta),
        _vector("bn0.running_mean", norm.moving_mean),
        _vector("bn0.running_var", norm.moving_variance),
        Slot(
            "patch_embed.proj.weight",
            (channels, 1, patch, patch),
            encoder.patch_embed.kernel,
            lambda conv: conv.reshape(channels, patch * patch).T,
        ),
        _vector("patch_embed.proj.bias", encoder.patch_embed.bias),
        *_layer_norm("patch_embed.norm", encoder.patch_norm),
    ]
    for key, layer in _swin_layers(encoder):
        if isinstance(layer, SwinBlock):
            table = layer.attention.relative_position_bias_table
            slots += [
                *_layer_norm(f"{key}.norm1", layer.norm1),
                Slot(f"{key}.attn.relative_position_bias_table", tuple(table.shape), table),
                *_dense(f"{key}.attn.qkv", layer.attention.qkv),
                *_dense(f"{key}.attn.proj", layer.attention.proj),
                *_layer_norm(f"{key}.norm2", layer.norm2),
                *_dense(f"{key}.mlp.fc1", layer.fc1),
                *_dense(f"{key}.mlp.fc2", layer.fc2),
            ]
        else:
            kernel = layer.reduction.kernel
            slots += [
                *_layer_norm(f"{key}.norm", layer.norm, _merging_order),
                Slot(
                    f"{key}.reduction.weight",
                    tuple(kernel.shape[::-1]),
                    kernel,
                    lambda weight: _merging_order(weight.T),
                ),
            ]
    return [*slots, *_layer_norm("norm", encoder.norm)]


def audio_constants(encoder: HTSATEncoder) -> dict[str, Array]:
    """Constants that HTS-AT stores although the sizes determine them; files must match them."""
    constants = {}
    for key, layer in _swin_layers(encoder):
        if isinstance(layer, SwinBlock):
            length = layer.window[0] * layer.window[1]
            index = layer.attention.relative_position_index.reshape(length, length)
            constants[f"{key}.attn.relative_position_index"] = index
            if layer.window_mask is not None:
                constants[f"{key}.attn_mask"] = layer.window_mask[:, 0]
    return constants


def text_slots(encoder: TextEncoder) -> list[Slot]:
    """List the weights of a text encoder, named as in OpenAI's CLIP."""
    embedding, positions = encoder.token_embedding.embeddings, encoder.positional_embedding
    projection = encoder.projection.kernel
    slots = [
        Slot("token_embedding.weight", tuple(embedding.shape), embedding),
        # Attention is causal: a shorter context is a prefix of a longer one.
        Slot(
            "positional_embedding",
            tuple(positions.shape),
            positions,
            lambda rows: rows[: encoder.context_length],
            first_rows=True,
        ),
    ]
    for number, block in enumerate(encoder.blocks):
        key = f"transformer.resblocks.{number}"
        slots += [
            *_layer_norm(f"{key}.ln_1", block.norm1),
            *_dense(f"{key}.attn.in_proj", block.qkv, separator="_"),
            *_dense(f"{key}.attn.out_proj", block.proj),
            *_layer_norm(f"{key}.ln_2", block.norm2),
            *_dense(f"{key}.mlp.c_fc", block.fc1),
            *_dense(f"{key}.mlp.c_proj", block.fc2),
        ]
    return [
        *slots,
        *_layer_norm("ln_final", encoder.norm),
        Slot("text_projection", tuple(projection.shape), projection),
    ]


def bert_slots(encoder: BertEncoder) -> list[Slot]:
    """List the weights of a BERT encoder but its projection's, named as in Hugging Face's BERT."""
    slots = [
        _vector(f"embeddings.{name}_embeddings.weight", layer.embeddings)
        for name, layer in (
            ("word", encoder.token_embedding),
            ("position", encoder.position_embedding),
            ("token_type", encoder.type_embedding),
        )
    ]
    slots += _layer_norm("embeddings.LayerNorm", encoder.norm)
    for number, block in enumerate(encoder.blocks):
        key = f"encoder.layer.{number}"
        slots += [
            *_dense(f"{key}.attention.self.qkv", block.qkv),
            *_dense(f"{key}.attention.output.dense", block.proj),
            *_layer_norm(f"{key}.attention.output.LayerNorm", block.norm1),
            *_dense(f"{key}.intermediate.dense", block.fc1),
            *_dense(f"{key}.output.dense", block.fc2),
            *_layer_norm(f"{key}.output.LayerNorm", block.norm2),
        ]
    if encoder.pooler is not None:
        slots += _dense("pooler.dense", encoder.pooler)
    for number, layer in enumerate(encoder.mlp, 1):
        slots += _dense(f"projection.linear{number}", layer)
    return slots


def clap_slots(audio_tower: AudioTower, text_encoder: BertEncoder, log_scale: Any) -> list[Slot]:
    """List the weights of both towers of CLAP and its logit scale, named as in LAION's code.

    The layers of the MLPs are named `linear1` and `linear2`, as at Hugging Face.
    """
    head = audio_tower.head
    slots = [
        replace(slot, key=f"{AUDIO_BRANCH}.{slot.key}") for slot in audio_slots(audio_tower.encoder)
    ]
    slots += _dense("audio_projection.linear1", head.hidden)
    slots += _dense("audio_projection.linear2", head.projection)
    for slot in bert_slots(text_encoder):
        part = "text_" if slot.key.startswith("projection.") else "text_branch."
        slots.append(replace(slot, key=f"{part}{slot.key}"))
    return [*slots, _vector("logit_scale_a", log_scale)]


def _swin_layers(encoder: HTSATEncoder) -> list[tuple[str, Any]]:
    """Blocks and patch mergings with their names in HTS-AT."""
    named = []
    stage = block = 0
    for layer in encoder.stages:
        if isinstance(layer, SwinBlock):
            named.append((f"layers.{stage}.blocks.{block}", layer))
            block += 1
        else:
            named.append((f"layers.{stage}.downsample", layer))
            stage, block = stage + 1, 0
    return named


def _vector(key: str, variable: Any, arrange: Callable[[Array], Array] = _as_is) -> Slot:
    return Slot(key, tuple(variable.shape), variable, arrange)


def _layer_norm(key: str, layer: Any, arrange: Callable[[Array], Array] = _as_is) -> list[Slot]:
    return [
        _vector(f"{key}.weight", layer.gamma, arrange),
        _vector(f"{key}.bias", layer.beta, arrange),
    ]


def _dense(key: str, layer: Any, separator: str = ".") -> list[Slot]:
    kernel = layer.kernel
    return [
        Slot(f"{key}{separator}weight", tuple(kernel.shape[::-1]), kernel, np.transpose),
        _vector(f"{key}{separator}bias", layer.bias),
    ]


def _merging_order(rows: Array) -> Array:
    """Reorder Swin's merged tokens, (row, column) 00, 10, 01, 11, to 00, 01, 10, 11."""
    return np.concatenate([np.split(rows, 4)[i] for i in (0, 2, 1, 3)])
