"""CLIP's text transformer."""

from typing import Self

import keras
import numpy as np
from keras import ops

from semanticac_keras import presets
from semanticac_keras.losses import l2_normalize
from semanticac_keras.token_dense import TokenDense


def quick_gelu(x):
    """QuickGELU, CLIP's activation: x · sigmoid(1.702 x)."""
    return x * ops.sigmoid(1.702 * x)


def checked_length(token_ids, context_length: int) -> int:
    """Return the length L of token ids (B, L).

    Raises:
        ValueError: if it exceeds the context length.
    """
    length = token_ids.shape[1]
    if length > context_length:
        raise ValueError(
            f"token_ids must have at most {context_length} columns. Received: {length}"
        )
    return length


def self_attention(qkv, num_heads, excluded=None):
    """Scaled dot-product attention of several heads.

    Args:
        qkv: (B, L, 3 * width), queries, keys and values side by side.
        num_heads: attention heads; must divide the width.
        excluded: bool, broadcast to (B, num_heads, L, L): which keys each query ignores.

    Returns:
        (B, L, width).
    """
    length, width = qkv.shape[1], qkv.shape[2] // 3
    qkv = ops.reshape(qkv, (-1, length, 3 * num_heads, width // num_heads))
    query, key, value = ops.split(ops.transpose(qkv, (0, 2, 1, 3)), 3, axis=1)  # (B, H, L, d)
    logits = ops.matmul(query * (width // num_heads) ** -0.5, ops.transpose(key, (0, 1, 3, 2)))
    logits = ops.cast(logits, "float32")
    if excluded is not None:
        logits = ops.where(excluded, -1e9, logits)
    x = ops.matmul(ops.cast(ops.softmax(logits, axis=-1), value.dtype), value)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, length, width))


@keras.saving.register_keras_serializable("semanticac_keras")
class TransformerBlock(keras.layers.Layer):
    """Self-attention and a QuickGELU MLP, each with pre-LayerNorm and a residual connection.

    Args:
        width: number of channels.
        num_heads: attention heads; must divide `width`.
        causal: whether tokens attend only to themselves and earlier tokens.

    Call arguments:
        x: (B, L, width).

    Returns:
        (B, L, width).

    Source: Radford et al. 2021, "CLIP", section 2.4.
    """

    def __init__(self, width: int, num_heads: int, causal: bool = True, **kwargs):
        super().__init__(**kwargs)
        if width % num_heads:
            raise ValueError(f"`num_heads` must divide `width`. Received: {num_heads}, {width}")
        self.width = width
        self.num_heads = num_heads
        self.causal = causal
        policy = self.dtype_policy
        self.norm1 = keras.layers.LayerNormalization(epsilon=1e-5, dtype=policy, name="norm1")
        self.qkv = TokenDense(3 * width, dtype=policy, name="qkv")
        self.proj = TokenDense(width, dtype=policy, name="proj")
        self.norm2 = keras.layers.LayerNormalization(epsilon=1e-5, dtype=policy, name="norm2")
        self.fc1 = TokenDense(4 * width, dtype=policy, name="fc1")
        self.fc2 = TokenDense(width, dtype=policy, name="fc2")

    def build(self, input_shape):
        for layer in (self.norm1, self.qkv, self.proj, self.norm2, self.fc1):
            layer.build(input_shape)
        self.fc2.build((*input_shape[:-1], 4 * self.width))
        self.built = True

    def call(self, x):
        x = x + self.proj(self._attend(self.qkv(self.norm1(x))))
        return x + self.fc2(quick_gelu(self.fc1(self.norm2(x))))

    def _attend(self, qkv):
        length = qkv.shape[1]
        later = np.triu(np.ones((length, length), bool), k=1) if self.causal else None
        return self_attention(qkv, self.num_heads, later)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_heads": self.num_heads,
            "causal": self.causal,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class TextEncoder(keras.Model):
    """CLIP's text encoder: one vector per text, taken at the end-of-text token.

    Attention is causal, so tokens after the end-of-text token have no effect. Texts may be padded
    with any lower id, to any length.

    Args:
        vocabulary_size: number of token ids; the end-of-text token has the highest id in use.
        context_length: maximum tokens of a text, start and end included.
        width: channels of the transformer.
        num_layers: number of transformer blocks.
        num_heads: attention heads of a block; must divide `width`.
        output_dim: size C of the shared embedding space.

    Call arguments:
        token_ids: int32 (B, L), ids in 0 .. vocabulary_size - 1, L <= context_length.
        normalize: whether to divide each vector by its L2 norm.

    Returns:
        (B, output_dim).

    Raises:
        ValueError: if L exceeds the context length.

    Source: Radford et al. 2021, section 2.4; the defaults are those of the RN50 model.
    """

    def __init__(
        self,
        vocabulary_size: int = 49_408,
        context_length: int = 77,
        width: int = 512,
        num_layers: int = 12,
        num_heads: int = 8,
        output_dim: int = 1024,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.width = width
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.output_dim = output_dim
        policy = self.dtype_policy
        self.token_embedding = keras.layers.Embedding(
            vocabulary_size,
            width,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype=policy,
            name="token_embedding",
        )
        self.blocks = [
            TransformerBlock(width, num_heads, dtype=policy, name=f"block{i}")
            for i in range(num_layers)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=policy, name="norm")
        self.projection = keras.layers.Dense(
            output_dim,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
            dtype=policy,
            name="projection",
        )
        self.build((None, context_length))

    @classmethod
    def from_preset(cls, preset: str, **overrides) -> Self:
        """Create an encoder at a preset's size, with random weights.

        Args:
            preset: one of `semanticac_keras.presets.PRESETS`.
            **overrides: constructor arguments that replace the preset's.
        """
        return cls(**{**presets.get(preset).text_encoder, **overrides})

    def build(self, input_shape):
        if self.built:
            return
        self.token_embedding.build((None, None))
        self.positional_embedding = self.add_weight(
            shape=(self.context_length, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="positional_embedding",
        )
        tokens = (None, None, self.width)
        for layer in (*self.blocks, self.norm, self.projection):
            layer.build(tokens)
        self.built = True

    def call(self, token_ids, normalize=False):
        length = checked_length(token_ids, self.context_length)
        x = self.token_embedding(token_ids)
        x = x + ops.cast(self.positional_embedding[:length], x.dtype)
        for block in self.blocks:
            x = block(x)
        end = ops.one_hot(ops.argmax(token_ids, axis=-1), length, dtype=x.dtype)
        pooled = ops.squeeze(ops.matmul(ops.expand_dims(end, 1), self.norm(x)), axis=1)
        embeddings = self.projection(pooled)
        return l2_normalize(embeddings) if normalize else embeddings

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {
            "vocabulary_size": self.vocabulary_size,
            "context_length": self.context_length,
            "width": self.width,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "output_dim": self.output_dim,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }
