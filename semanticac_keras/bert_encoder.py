"""Text encoders of the BERT family: BERT, RoBERTa, and the sentence encoders made from them."""

from typing import Literal, get_args

import keras
from keras import ops

from semanticac_keras.losses import l2_normalize
from semanticac_keras.text_encoder import checked_length, self_attention
from semanticac_keras.token_dense import TokenDense

Pooling = Literal["mean", "cls", "pooler"]

_INITIALIZER = keras.initializers.TruncatedNormal(stddev=0.02)


@keras.saving.register_keras_serializable("semanticac_keras")
class BertBlock(keras.layers.Layer):
    """Self-attention and an MLP with exact GELU, each with a residual connection, then LayerNorm.

    Args:
        width: number of channels.
        num_heads: attention heads; must divide `width`.
        hidden_dim: channels inside the MLP.
        epsilon: added to the variance by the LayerNorms.

    Call arguments:
        x: (B, L, width).
        padding: bool (B, L), tokens that no other token attends to.

    Returns:
        (B, L, width).

    Source: Devlin et al. 2019, "BERT", section 3.
    """

    def __init__(
        self, width: int, num_heads: int, hidden_dim: int, epsilon: float = 1e-12, **kwargs
    ):
        super().__init__(**kwargs)
        if width % num_heads:
            raise ValueError(f"`num_heads` must divide `width`. Received: {num_heads}, {width}")
        self.width = width
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.epsilon = epsilon
        policy = self.dtype_policy
        self.qkv = TokenDense(3 * width, kernel_initializer=_INITIALIZER, dtype=policy, name="qkv")
        self.proj = TokenDense(width, kernel_initializer=_INITIALIZER, dtype=policy, name="proj")
        self.norm1 = keras.layers.LayerNormalization(epsilon=epsilon, dtype=policy, name="norm1")
        self.fc1 = TokenDense(hidden_dim, kernel_initializer=_INITIALIZER, dtype=policy, name="fc1")
        self.fc2 = TokenDense(width, kernel_initializer=_INITIALIZER, dtype=policy, name="fc2")
        self.norm2 = keras.layers.LayerNormalization(epsilon=epsilon, dtype=policy, name="norm2")

    def build(self, input_shape):
        for layer in (self.qkv, self.proj, self.norm1, self.fc1, self.norm2):
            layer.build(input_shape)
        self.fc2.build((*input_shape[:-1], self.hidden_dim))
        self.built = True

    def call(self, x, padding):
        excluded = ops.expand_dims(padding, (1, 2))  # (B, 1, 1, L)
        attended = self_attention(self.qkv(x), self.num_heads, excluded)
        x = self.norm1(x + self.proj(attended))
        return self.norm2(x + self.fc2(ops.gelu(self.fc1(x), approximate=False)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class BertEncoder(keras.Model):
    """Text encoder of the BERT family: one vector per text.

    The body is BERT or RoBERTa, pooled to one vector, with an MLP if it has one, such as CLAP's. A
    linear projection may follow. It takes the vector to a model's embedding size, and stays
    trainable in a frozen encoder. It starts with orthogonal directions, so that texts are about as
    similar after it as before.

    Texts are padded at their end. Padding has no effect on the result. Whatever the precision,
    pooling, MLP and projection compute in float32.

    Args:
        vocabulary_size: number of token ids.
        context_length: maximum tokens of a text, start and end included.
        width: channels of the transformer.
        num_layers: number of transformer blocks.
        num_heads: attention heads of a block; must divide `width`.
        hidden_dim: channels inside the MLP of a block.
        num_token_types: rows of the table of token types, of which the first is used.
        pad_id: token id of padding.
        position_offset: row of the first token's position; RoBERTa's is 2, after the padding's.
        epsilon: added to the variance by the LayerNorms.
        pooling: `"mean"` of all tokens; `"cls"`, the first token; or `"pooler"`, a dense layer with
            tanh over the first token.
        mlp_dim: size of CLAP's MLP (dense, ReLU, dense) over the pooled vector; None is no MLP.
        output_dim: size C of the shared embedding space, reached by the linear projection; None is
            no projection.
        frozen: keep all weights but the projection's as they are.

    Call arguments:
        token_ids: int32 (B, L), ids in 0 .. vocabulary_size - 1, L <= context_length.
        normalize: whether to divide each vector by its L2 norm.

    Returns:
        float32 (B, output_dim).

    Raises:
        ValueError: if an argument is unknown, or L exceeds the context length.

    Source: Devlin et al. 2019, "BERT"; Liu et al. 2019, "RoBERTa"; Reimers & Gurevych 2019,
        "Sentence-BERT", section 3 (pooling); Wu et al. 2023, "LAION-CLAP", section 3.1 (MLP).
    """

    def __init__(
        self,
        vocabulary_size: int = 30_522,
        context_length: int = 512,
        width: int = 384,
        num_layers: int = 6,
        num_heads: int = 12,
        hidden_dim: int = 1536,
        num_token_types: int = 2,
        pad_id: int = 0,
        position_offset: int = 0,
        epsilon: float = 1e-12,
        pooling: Pooling = "mean",
        mlp_dim: int | None = None,
        output_dim: int | None = None,
        frozen: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        if pooling not in get_args(Pooling):
            raise ValueError(f"`pooling` must be one of {get_args(Pooling)}. Received: {pooling!r}")
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.width = width
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.num_token_types = num_token_types
        self.pad_id = pad_id
        self.position_offset = position_offset
        self.epsilon = epsilon
        self.pooling = pooling
        self.mlp_dim = mlp_dim
        self.output_dim = output_dim or mlp_dim or width
        self.frozen = frozen
        policy = self.dtype_policy
        self.token_embedding = self._embedding(vocabulary_size, "token_embedding")
        self.position_embedding = self._embedding(
            position_offset + context_length, "position_embedding"
        )
        self.type_embedding = self._embedding(num_token_types, "type_embedding")
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, dtype=policy, name="norm")
        self.blocks = [
            BertBlock(width, num_heads, hidden_dim, epsilon, dtype=policy, name=f"block{i}")
            for i in range(num_layers)
        ]
        self.pooler = self._dense(width, "tanh", "pooler") if pooling == "pooler" else None
        self.mlp = []
        if mlp_dim is not None:
            self.mlp = [self._dense(mlp_dim, "relu", "mlp1"), self._dense(mlp_dim, None, "mlp2")]
        self.projection = None
        if output_dim is not None:
            self.projection = keras.layers.Dense(
                output_dim,
                use_bias=False,
                kernel_initializer="orthogonal",
                dtype="float32",
                name="projection",
            )
        self.build((None, context_length))
        if frozen:
            self._freeze()

    def _embedding(self, rows: int, name: str) -> keras.layers.Embedding:
        return keras.layers.Embedding(
            rows,
            self.width,
            embeddings_initializer=_INITIALIZER,
            dtype=self.dtype_policy,
            name=name,
        )

    @staticmethod
    def _dense(units: int, activation: str | None, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=_INITIALIZER,
            dtype="float32",
            name=name,
        )

    def _freeze(self) -> None:
        # Without a trainable weight, a `SemanticAC` need not encode its labels in each step.
        self.trainable = self.projection is not None
        for layer in self.layers:
            layer.trainable = layer is self.projection

    def build(self, input_shape):
        if self.built:
            return
        tokens = (None, None, self.width)
        for embedding in (self.token_embedding, self.position_embedding, self.type_embedding):
            embedding.build((None, None))
        for layer in (self.norm, *self.blocks):
            layer.build(tokens)
        if self.pooler is not None:
            self.pooler.build((None, self.width))
        size = self.width
        for layer in self.mlp:
            layer.build((None, size))
            size = layer.units
        if self.projection is not None:
            self.projection.build((None, size))
        self.built = True

    @property
    def feature_dim(self) -> int | None:
        """Size D of `features` if only the projection after them is trained, else None."""
        if self.frozen and self.projection is not None:
            return self.mlp_dim or self.width
        return None

    def call(self, token_ids, normalize=False):
        return self.project(self.features(token_ids), normalize)

    def features(self, token_ids):
        """Encode texts without the projection.

        Args:
            token_ids: int32 (B, L), as for a call.

        Returns:
            float32 (B, D).
        """
        length = checked_length(token_ids, self.context_length)
        padding = ops.equal(token_ids, self.pad_id)  # (B, L)
        positions = ops.arange(self.position_offset, self.position_offset + length)
        x = self.token_embedding(token_ids)
        x = x + self.position_embedding(positions) + self.type_embedding(ops.zeros_like(positions))
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, padding)
        x = self._pool(ops.cast(x, "float32"), padding)
        for layer in self.mlp:
            x = layer(x)
        return x

    def project(self, features, normalize=False):
        """Apply the projection, if there is one.

        Args:
            features: float32 (B, D), from `features`.
            normalize: whether to divide each vector by its L2 norm.

        Returns:
            float32 (B, output_dim).
        """
        vectors = features if self.projection is None else self.projection(features)
        return l2_normalize(vectors) if normalize else vectors

    def _pool(self, x, padding):
        """Reduce tokens (B, L, width) to vectors (B, width)."""
        if self.pooling == "mean":
            kept = ops.cast(ops.logical_not(ops.expand_dims(padding, -1)), "float32")
            return ops.sum(x * kept, axis=1) / ops.maximum(ops.sum(kept, axis=1), 1.0)
        return x[:, 0] if self.pooler is None else self.pooler(x[:, 0])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_dim)

    def get_config(self):
        return {
            "vocabulary_size": self.vocabulary_size,
            "context_length": self.context_length,
            "width": self.width,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "num_token_types": self.num_token_types,
            "pad_id": self.pad_id,
            "position_offset": self.position_offset,
            "epsilon": self.epsilon,
            "pooling": self.pooling,
            "mlp_dim": self.mlp_dim,
            "output_dim": None if self.projection is None else self.output_dim,
            "frozen": self.frozen,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }
