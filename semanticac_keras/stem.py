"""Convolutional stem, which replaces the patch embedding of encoders trained on little data."""

from collections.abc import Sequence

import keras
from keras import ops

from semanticac_keras.batch_norm import BatchNorm


@keras.saving.register_keras_serializable("semanticac_keras")
class ConvStem(keras.layers.Layer):
    """Convolutional stem: image to tokens by blocks that each halve both sides.

    A block is two 3x3 convolutions, the first with stride 2, each followed by batch normalisation
    and ReLU. Unlike a patch embedding, which learns them from data, convolutions have locality and
    shift equivariance built in. That pays off when there are only a few hundred clips.

    Args:
        channels: output channels of each block.

    Call arguments:
        x: (B, rows, columns, 1), both sides divisible by 2 ** len(channels).

    Returns:
        Tokens (B, rows * columns / 4 ** len(channels), channels[-1]).

    Source: Xiao et al. 2021, "Early Convolutions Help Transformers See Better".
    """

    def __init__(self, channels: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        policy = self.dtype_policy
        self.convs = []
        self.norms = []
        for block, width in enumerate(self.channels):
            for step, stride in enumerate((2, 1)):
                self.convs.append(
                    keras.layers.Conv2D(
                        width,
                        3,
                        strides=stride,
                        padding="same",
                        use_bias=False,
                        kernel_initializer="he_normal",
                        dtype=policy,
                        name=f"conv{block}_{step}",
                    )
                )
                self.norms.append(
                    BatchNorm(momentum=0.9, epsilon=1e-5, dtype=policy, name=f"norm{block}_{step}")
                )

    def build(self, input_shape):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            conv.build(input_shape)
            input_shape = conv.compute_output_shape(input_shape)
            norm.build(input_shape)
        self.built = True

    def call(self, x, training=False):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.relu(norm(conv(x), training=training))
        return ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))

    def compute_output_shape(self, input_shape):
        batch, rows, columns, _ = input_shape
        scale = 4 ** len(self.channels)
        tokens = None if rows is None or columns is None else rows * columns // scale
        return (batch, tokens, self.channels[-1])

    def get_config(self):
        return {**super().get_config(), "channels": list(self.channels)}
