"""Similarity heads, from the token map to the shared space: the paper's Table 3, and CLAP's."""

import math
from typing import Literal

import keras
from keras import ops

from semanticac_keras import presets
from semanticac_keras.cscm import CSCM
from semanticac_keras.text_encoder import TransformerBlock

Head = Literal["pooled", "seq_lstm", "seq_transformer", "cscm", "flatten", "clap"]

# CLIP's attention heads have 64 channels in all of its transformers.
_CHANNELS_PER_ATTENTION_HEAD = 64


class _Projected(keras.layers.Layer):
    """Base of heads that end in a linear projection."""

    def __init__(self, output_dim: int = 1024, **kwargs):
        super().__init__(**kwargs)
        self.output_dim = output_dim

    def _build_projection(self, num_features: int):
        self.projection = keras.layers.Dense(
            self.output_dim, dtype=self.dtype_policy, name="projection"
        )
        self.projection.build((None, num_features))
        self.built = True

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {**super().get_config(), "output_dim": self.output_dim}


@keras.saving.register_keras_serializable("semanticac_keras")
class FlattenDense(_Projected):
    """Linear projection of the flattened token map: the large head that CSCM replaces.

    Args:
        output_dim: size C of the shared embedding space.

    Call arguments:
        x: (B, rows, columns, d).

    Returns:
        (B, output_dim).

    Source: SemanticAC, section 2.2, "conventional methods".
    """

    def build(self, input_shape):
        self._build_projection(math.prod(input_shape[1:]))

    def call(self, x, training=False):
        return self.projection(ops.reshape(x, (-1, math.prod(x.shape[1:]))))


@keras.saving.register_keras_serializable("semanticac_keras")
class MeanPooling(_Projected):
    """Linear projection of the mean token: no similarity module.

    Args:
        output_dim: size C of the shared embedding space.

    Call arguments:
        x: (B, rows, columns, d).

    Returns:
        (B, output_dim).

    Source: SemanticAC, Table 3, row "SemanticAC*"; meanP of Luo et al. 2022, "CLIP4Clip".
    """

    def build(self, input_shape):
        self._build_projection(input_shape[-1])

    def call(self, x, training=False):
        _, rows, columns, dim = x.shape
        return self.projection(self._pool(ops.reshape(x, (-1, rows * columns, dim))))

    def _pool(self, tokens):
        """Pool tokens (B, rows * columns, d), in row-major order, to (B, d)."""
        return ops.mean(tokens, axis=1)


@keras.saving.register_keras_serializable("semanticac_keras")
class PooledMLP(MeanPooling):
    """MLP over the mean token: dense, ReLU, dense, both of the output's size.

    Args:
        output_dim: size C of the shared embedding space.

    Call arguments:
        x: (B, rows, columns, d).

    Returns:
        (B, output_dim).

    Source: Wu et al. 2023, "LAION-CLAP", section 3.1.
    """

    def build(self, input_shape):
        self.hidden = keras.layers.Dense(
            self.output_dim, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.hidden.build((None, input_shape[-1]))
        self._build_projection(self.output_dim)

    def _pool(self, tokens):
        return self.hidden(super()._pool(tokens))


@keras.saving.register_keras_serializable("semanticac_keras")
class SeqLSTM(MeanPooling):
    """Linear projection of the mean of tokens plus the outputs of an LSTM over them.

    CLIP4Clip divides each sum by its norm before the mean. Here the tokens come from a LayerNorm,
    so the sums are averaged without normalisation.

    Args:
        output_dim: size C of the shared embedding space.

    Call arguments:
        x: (B, rows, columns, d).

    Returns:
        (B, output_dim).

    Source: Luo et al. 2022, section 3.3, "sequential type".
    """

    def build(self, input_shape):
        # Not `keras.layers.LSTM`: even unrolled, it exports operators around its steps that the
        # CPU delegate does not support.
        dim = input_shape[-1]
        self.input_gates = keras.layers.Dense(4 * dim, dtype=self.dtype_policy, name="input_gates")
        self.recurrent_gates = keras.layers.Dense(
            4 * dim,
            use_bias=False,
            kernel_initializer="orthogonal",
            dtype=self.dtype_policy,
            name="recurrent_gates",
        )
        self.input_gates.build((None, None, dim))
        self.recurrent_gates.build((None, None, dim))
        super().build(input_shape)

    def _pool(self, tokens):
        length = tokens.shape[1]
        gates = self.input_gates(tokens)  # (B, L, 4d)
        state = output = ops.zeros_like(tokens[:, :1])  # (B, 1, d)
        total = ops.cast(output, "float32")
        for place in range(length):
            step = gates[:, place : place + 1] + self.recurrent_gates(output)
            enter, keep, candidate, leave = ops.split(step, 4, axis=-1)
            # The 1 is the forget gate's initial bias.
            state = ops.sigmoid(keep + 1) * state + ops.sigmoid(enter) * ops.tanh(candidate)
            output = ops.sigmoid(leave) * ops.tanh(state)
            total = total + ops.cast(output, "float32")
        mean = ops.cast(ops.squeeze(total, axis=1) / length, tokens.dtype)
        return super()._pool(tokens) + mean


@keras.saving.register_keras_serializable("semanticac_keras")
class SeqTransformer(MeanPooling):
    """Linear projection of the mean of tokens plus the outputs of a transformer over them.

    As in `SeqLSTM`, the sums are averaged without normalisation.

    Args:
        output_dim: size C of the shared embedding space.
        num_layers: number of transformer blocks.
        num_heads: attention heads of a block; d / 64 if not given.

    Call arguments:
        x: (B, rows, columns, d).

    Returns:
        (B, output_dim).

    Raises:
        ValueError: if `num_heads` does not divide d.

    Source: Luo et al. 2022, section 3.3, "sequential type".
    """

    def __init__(
        self, output_dim: int = 1024, num_layers: int = 4, num_heads: int | None = None, **kwargs
    ):
        super().__init__(output_dim, **kwargs)
        self.num_layers = num_layers
        self.num_heads = num_heads

    def build(self, input_shape):
        _, rows, columns, dim = input_shape
        num_heads = self.num_heads or max(1, dim // _CHANNELS_PER_ATTENTION_HEAD)
        self.positional_embedding = self.add_weight(
            shape=(rows * columns, dim),
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="positional_embedding",
        )
        self.blocks = [
            TransformerBlock(
                dim, num_heads, causal=False, dtype=self.dtype_policy, name=f"block{i}"
            )
            for i in range(self.num_layers)
        ]
        for block in self.blocks:
            block.build((None, rows * columns, dim))
        super().build(input_shape)

    def _pool(self, tokens):
        x = tokens + ops.cast(self.positional_embedding, tokens.dtype)
        for block in self.blocks:
            x = block(x)
        return super()._pool(tokens + x)

    def get_config(self):
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class ZeroPadded(keras.layers.Layer):
    """Head with a zero after its vector, which then is as long as those of a `NameMixture`.

    Args:
        head: the head, of size C.

    Call arguments:
        x: (B, rows, columns, d).

    Returns:
        (B, C + 1).
    """

    def __init__(self, head: keras.layers.Layer, **kwargs):
        super().__init__(**{"dtype": head.dtype_policy, **kwargs})
        self.head = head
        self.output_dim = head.output_dim + 1

    def build(self, input_shape):
        if not self.head.built:
            self.head.build(input_shape)
        self.built = True

    def call(self, x, training=False):
        return ops.pad(self.head(x, training=training), ((0, 0), (0, 1)))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "head": keras.saving.serialize_keras_object(self.head),
        }

    @classmethod
    def from_config(cls, config):
        head = keras.saving.deserialize_keras_object(config["head"])
        return cls(**{**config, "head": head})


HEADS: dict[Head, type[keras.layers.Layer]] = {
    "pooled": MeanPooling,
    "seq_lstm": SeqLSTM,
    "seq_transformer": SeqTransformer,
    "cscm": CSCM,
    "flatten": FlattenDense,
    "clap": PooledMLP,
}


def head_from_preset(
    head: Head, preset: str, hidden_dim: int | None = None, output_dim: int | None = None
) -> keras.layers.Layer:
    """Create a head at a preset's size, with random weights.

    Args:
        head: a name in `HEADS`.
        preset: one of `semanticac_keras.presets.PRESETS`.
        hidden_dim: `hidden_dim` of a `CSCM`; the preset's if not given.
        output_dim: size C of the shared embedding space; the preset's if not given.

    Raises:
        ValueError: if the head or the preset is unknown.
    """
    if head not in HEADS:
        raise ValueError(f"`head` must be one of {sorted(HEADS)}. Received: {head!r}")
    sizes = presets.get(preset).cscm
    arguments = {"output_dim": output_dim or sizes["output_dim"]}
    if head == "cscm":
        arguments = sizes | arguments | ({} if hidden_dim is None else {"hidden_dim": hidden_dim})
    return HEADS[head](**arguments, name=head)
