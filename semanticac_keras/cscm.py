"""Convolutional similarity calculation module (CSCM)."""

import keras
from keras import ops

from semanticac_keras.swin import exact_gelu


@keras.saving.register_keras_serializable("semanticac_keras")
class ChannelAttention(keras.layers.Layer):
    """Channel attention from the mean and maximum over space.

    Args:
        reduction: ratio of the map's channels to the hidden channels of the shared MLP.

    Call arguments:
        x: (B, rows, columns, C).

    Returns:
        (B, rows, columns, C).

    Source: Woo et al. 2018, "CBAM", eq. 2.
    """

    def __init__(self, reduction: int = 16, **kwargs):
        super().__init__(**kwargs)
        self.reduction = reduction

    def build(self, input_shape):
        channels = input_shape[-1]
        policy = self.dtype_policy
        self.squeeze = keras.layers.Dense(
            max(1, channels // self.reduction), activation="relu", dtype=policy, name="squeeze"
        )
        self.excite = keras.layers.Dense(channels, dtype=policy, name="excite")
        self.squeeze.build((None, channels))
        self.excite.build((None, self.squeeze.units))
        self.built = True

    def call(self, x, training=False):
        mean = self.excite(self.squeeze(ops.mean(x, axis=(1, 2))))
        peak = self.excite(self.squeeze(_maximum(x, (1, 2), training)))
        weights = ops.sigmoid(mean + peak)  # (B, C)
        return x * ops.reshape(weights, (-1, 1, 1, x.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable("semanticac_keras")
class SpatialAttention(keras.layers.Layer):
    """Spatial attention from a convolution over the channel mean and maximum.

    Args:
        kernel_size: side of the convolution kernel.

    Call arguments:
        x: (B, rows, columns, C).

    Returns:
        (B, rows, columns, C).

    Source: Woo et al. 2018, eq. 3.
    """

    def __init__(self, kernel_size: int = 7, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        # Two channels cost nothing in float32, and PyTorch lacks a bfloat16 convolution for them on
        # processors without AVX-512.
        self.conv = keras.layers.Conv2D(
            1, kernel_size, padding="same", dtype="float32", name="conv"
        )

    def build(self, input_shape):
        self.conv.build((*input_shape[:-1], 2))
        self.built = True

    def call(self, x, training=False):
        mean = ops.mean(x, axis=-1, keepdims=True)
        peak = _maximum(x, (-1,), training, keepdims=True)
        weights = ops.sigmoid(self.conv(ops.concatenate([mean, peak], axis=-1)))
        return x * ops.cast(weights, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("semanticac_keras")
class CSCM(keras.layers.Layer):
    """Token map to one vector: channel and spatial attention, then 3x3 and 1x1 convolutions.

    The paper names these parts and states that they have few parameters. The rest is our reading:
    batch normalisation and GELU follow the 3x3 convolution, which reduces the channels. The map is
    averaged before the 1x1 convolution, which gives the same result as averaging after it, at a
    fraction of the cost.

    Args:
        output_dim: size C of the shared embedding space.
        hidden_dim: output channels of the 3x3 convolution; d / 2 if not given.
        reduction: channel reduction of the `ChannelAttention`.
        dropout: dropout rate of the averaged features, in [0, 1).

    Call arguments:
        x: (B, rows, columns, d).

    Returns:
        (B, output_dim).

    Source: SemanticAC, section 2.2 and Table 3.
    """

    def __init__(
        self,
        output_dim: int = 1024,
        hidden_dim: int | None = None,
        reduction: int = 16,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.output_dim = output_dim
        self.hidden_dim = hidden_dim
        self.reduction = reduction
        self.dropout = dropout

    def build(self, input_shape):
        hidden_dim = self.hidden_dim or input_shape[-1] // 2
        policy = self.dtype_policy
        self.channel_attention = ChannelAttention(self.reduction, dtype=policy)
        self.spatial_attention = SpatialAttention(dtype=policy)
        # A map with one column, such as a tagger's, has neighbours in one direction only.
        kernel = (3, 1) if input_shape[2] == 1 else 3
        self.conv3 = keras.layers.Conv2D(
            hidden_dim, kernel, padding="same", use_bias=False, dtype=policy, name="conv3"
        )
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype=policy, name="norm"
        )
        self.feature_dropout = keras.layers.Dropout(self.dropout, dtype=policy)
        self.conv1 = keras.layers.Conv2D(self.output_dim, 1, dtype=policy, name="conv1")
        hidden = (*input_shape[:-1], hidden_dim)
        for layer in (self.channel_attention, self.spatial_attention, self.conv3):
            layer.build(input_shape)
        self.norm.build(hidden)
        self.conv1.build(hidden)
        self.built = True

    def call(self, x, training=False):
        x = self.channel_attention(x, training=training)
        x = self.spatial_attention(x, training=training)
        x = exact_gelu(self.norm(self.conv3(x), training=training))
        x = ops.mean(x, axis=(1, 2), keepdims=True)  # (B, 1, 1, hidden)
        x = self.conv1(self.feature_dropout(x, training=training))
        return ops.reshape(x, (-1, self.output_dim))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "hidden_dim": self.hidden_dim,
            "reduction": self.reduction,
            "dropout": self.dropout,
        }


def _maximum(x, axes: tuple[int, ...], training: bool, keepdims: bool = False):
    """Maximum over axes whose gradient is never NaN.

    The gradient of `ops.max` goes to the entries that equal the maximum. A compiler may compute x
    twice with different rounding; then no entry is equal and the gradient is 0/0. So training
    selects the maximum by its position.
    """
    if not training:
        return ops.max(x, axis=axes, keepdims=keepdims)
    for axis in axes:
        chosen = ops.one_hot(ops.argmax(x, axis=axis), x.shape[axis], axis=axis, dtype=x.dtype)
        x = ops.sum(x * chosen, axis=axis, keepdims=True)
    return x if keepdims else ops.squeeze(x, axes)
