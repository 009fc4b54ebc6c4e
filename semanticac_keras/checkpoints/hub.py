"""Text weights from CLIP presets of KerasHub; needs the extra `hub`."""

from typing import Any

import keras
import numpy as np

from semanticac_keras.checkpoints.stored import Array, CheckpointError, CheckpointFile, StoredTensor


def hub_preset(preset: str) -> CheckpointFile:
    """Load the text weights of a KerasHub CLIP preset, named as in OpenAI's CLIP.

    Args:
        preset: argument of `keras_hub.models.CLIPBackbone.from_preset`: a name or a directory.

    Raises:
        CheckpointError: if KerasHub is not installed or cannot load the preset, or the preset's
            activation is not QuickGELU.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise CheckpointError(
            f"hub:{preset} needs KerasHub: pip install 'semanticac-keras[hub]' ({error})"
        ) from error
    try:
        backbone = keras_hub.models.CLIPBackbone.from_preset(preset)
    except (ImportError, OSError, ValueError) as error:
        raise CheckpointError(f"KerasHub cannot load {preset!r}: {error}") from error
    activation = backbone.text_encoder.intermediate_activation
    if activation != "quick_gelu":
        raise CheckpointError(
            f"{preset!r} must have the activation quick_gelu. Received: trained with {activation}"
        )
    tensors = _text_weights(backbone)
    return CheckpointFile("KerasHub preset", {key: _stored(tensors[key]) for key in tensors})


def _text_weights(backbone: Any) -> dict[str, Array]:
    encoder = backbone.text_encoder
    tokens, positions = (_values(weight) for weight in encoder.embedding.weights)
    width = tokens.shape[1]
    named = {"token_embedding.weight": tokens, "positional_embedding": positions}
    for number, layer in enumerate(encoder.encoder_layers):
        key = f"transformer.resblocks.{number}"
        attention = layer.attention
        parts = (attention.query_dense, attention.key_dense, attention.value_dense)
        kernels = [_values(part.kernel).reshape(width, width).T for part in parts]
        output = attention.output_dense
        named |= {
            f"{key}.attn.in_proj_weight": np.concatenate(kernels),
            f"{key}.attn.in_proj_bias": np.concatenate([_values(p.bias).ravel() for p in parts]),
            f"{key}.attn.out_proj.weight": _values(output.kernel).reshape(width, width).T,
            f"{key}.attn.out_proj.bias": _values(output.bias),
            **_layer_norm(f"{key}.ln_1", layer.layer_norm_1),
            **_layer_norm(f"{key}.ln_2", layer.layer_norm_2),
            **_dense(f"{key}.mlp.c_fc", layer.dense_1),
            **_dense(f"{key}.mlp.c_proj", layer.dense_2),
        }
    named |= _layer_norm("ln_final", encoder.layer_norm)
    return named | {"text_projection": _values(backbone.text_projection.kernel)}


def _layer_norm(key: str, layer: Any) -> dict[str, Array]:
    return {f"{key}.weight": _values(layer.gamma), f"{key}.bias": _values(layer.beta)}


def _dense(key: str, layer: Any) -> dict[str, Array]:
    return {f"{key}.weight": _values(layer.kernel).T, f"{key}.bias": _values(layer.bias)}


def _values(variable: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def _stored(values: Array) -> StoredTensor:
    return StoredTensor(values.shape, "float32", lambda: values)
