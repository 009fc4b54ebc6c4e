"""An encoder's constants, arranged so that an exported graph has less to do."""

import keras
import numpy as np
from keras import ops

from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.swin import SwinBlock


def fold_layer_norms(encoder: HTSATEncoder) -> None:
    """Let each block's dense layers do what the LayerNorms before them do after normalising.

    A LayerNorm scales and shifts the channels, and in a TFLite graph each of the two is a pass over
    all tokens. A dense layer of the scaled and shifted is another dense layer of what they were.

    Args:
        encoder: float32, changed in place; it computes the same but cannot be trained or saved.
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
