"""An encoder's constants, arranged so that an exported graph has less to do."""

import keras
import numpy as np
from keras import ops

from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.swin import SwinBlock, WindowAttention


def fold_constants(encoder: HTSATEncoder) -> None:
    """Compute once what a TFLite graph would compute for each window, pass by pass over its tokens.

    A LayerNorm scales and shifts the channels after it has normalised them. The dense layer behind
    it does that as well, with another kernel and bias. Queries, keys and values come from a product
    each: those of one for all three would have to be torn apart. The queries' scale is in theirs.

    Args:
        encoder: float32, changed in place; it computes the same but cannot be trained or saved.
    """
    for block in encoder.stages:
        if isinstance(block, SwinBlock):
            _fold(block.norm1, block.attention.qkv)
            _fold(block.norm2, block.fc1)
            _separate(block.attention)


def _fold(norm: keras.layers.LayerNormalization, dense: keras.layers.Dense) -> None:
    scale, shift, kernel, bias = (
        ops.convert_to_numpy(variable).astype(np.float64)
        for variable in (norm.gamma, norm.beta, dense.kernel, dense.bias)
    )
    dense.kernel.assign(scale[:, None] * kernel)
    dense.bias.assign(bias + shift @ kernel)
    norm.gamma = norm.beta = None


def _separate(attention: WindowAttention) -> None:
    kernel, bias = map(ops.convert_to_numpy, (attention.qkv.kernel, attention.qkv.bias))
    scale = np.float32((attention.dim // attention.num_heads) ** -0.5)
    attention.projections = [
        (factor * part, factor * offset)
        for factor, part, offset in zip(
            (scale, 1, 1), np.split(kernel, 3, axis=1), np.split(bias, 3), strict=True
        )
    ]
