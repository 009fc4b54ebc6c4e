"""LayerNorm folding, which makes exported graphs cheaper."""

import keras
import numpy as np
from keras import ops

from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.swin import SwinBlock


def fold_layer_norms(encoder: HTSATEncoder) -> None:
    """Fold the scale and offset of each block's LayerNorms into the dense layers that follow.

    In a TFLite graph, the scale and the offset each take a pass over all tokens. Folded into the
    weights of the next dense layer, they cost nothing.

    Args:
        encoder: float32 encoder, changed in place; its output stays the same, but it can no longer
            be trained or saved.
    """
    for block in encoder.stages:
        if isinstance(block, SwinBlock):
            _fold(block.norm1, block.attention.qkv)
            _fold(block.norm2, block.fc1)


def _fold(norm: keras.layers.LayerNormalization, dense: keras.layers.Dense) -> None:
    scale, shift, kernel, bias = (
        ops.convert_to_numpy(variable).astype(np.float64)
        for variable in (norm.gamma, norm.beta, dense.kernel, dense.bias)
    )
    dense.kernel.assign(scale[:, None] * kernel)
    dense.bias.assign(bias + shift @ kernel)
    norm.gamma = norm.beta = None
