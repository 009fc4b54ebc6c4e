"""HTS-AT, a Swin transformer encoder of log-mel spectrograms."""

from collections.abc import Sequence
from typing import Self

import keras
import numpy as np
from keras import ops

from semanticac_keras import presets
from semanticac_keras.spec_augment import SpecAugment
from semanticac_keras.stem import ConvStem
from semanticac_keras.swin import LAYER_NORM_EPSILON, PatchMerging, SwinBlock, _dense


@keras.saving.register_keras_serializable("semanticac_keras")
class HTSATEncoder(keras.Model):
    """Hierarchical token-semantic audio transformer: log-mels to a map of tokens.

    The mel bands are normalised, and time is resized to `num_chunks * chunk_frames` frames. The
    chunks are then stacked vertically into an image of `num_chunks * num_mels` rows and
    `chunk_frames` columns. Each Swin stage but the first halves both sides of the token grid and
    doubles the channels.

    Args:
        num_frames: frames of a log-mel, at most `num_chunks * chunk_frames`.
        num_mels: mel bands, a multiple of `patch_size`.
        num_chunks: number of chunks that time is split into.
        chunk_frames: frames of a chunk, a multiple of `patch_size`.
        patch_size: side of the square patch that becomes one token.
        stem_channels: output channels of the blocks of a `ConvStem`, which replaces the linear
            patch embedding; log2(patch_size) entries, the last equal to `embed_dim`. Empty for the
            patch embedding.
        embed_dim: channels of the first stage.
        depths: number of blocks of each stage.
        num_heads: attention heads of each stage.
        window_size: largest side of an attention window, in tokens.
        mlp_ratio: ratio of an MLP's hidden channels to the block's channels.
        dropout: dropout rate inside the blocks, in [0, 1).
        drop_path: stochastic depth rate of the last block; rises linearly from 0 at the first.
        spec_augment: whether to apply `SpecAugment` to the normalised log-mel while training.

    Call arguments:
        log_mels: float32 decibels, (B, num_frames, num_mels).

    Returns:
        (B, rows, columns, C). At paper size (B, 8, 8, 768): rows are 4 chunks of time by 2 bands
        of frequency, columns are 8 time steps within a chunk.

    Raises:
        ValueError: if the sizes are inconsistent, or the log-mels have another shape.

    Source: Chen et al. 2022, "HTS-AT", section 2.
    """

    def __init__(
        self,
        num_frames: int = 1001,
        num_mels: int = 64,
        num_chunks: int = 4,
        chunk_frames: int = 256,
        patch_size: int = 4,
        stem_channels: Sequence[int] = (),
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
        window_size: int = 8,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.1,
        spec_augment: bool = False,
        **kwargs,
    ):
        # No autocast: the normalisation needs the decibels in full precision.
        super().__init__(autocast=False, **kwargs)
        if len(depths) != len(num_heads):
            raise ValueError(
                "`depths` and `num_heads` must each have one entry per stage. "
                f"Received: {tuple(depths)}, {tuple(num_heads)}"
            )
        if num_frames > num_chunks * chunk_frames:
            raise ValueError(
                "`num_frames` must be at most num_chunks * chunk_frames = "
                f"{num_chunks * chunk_frames}. Received: {num_frames}"
            )
        if num_mels % patch_size or chunk_frames % patch_size:
            raise ValueError(
                "`patch_size` must divide `num_mels` and `chunk_frames`. "
                f"Received: {patch_size}, {num_mels}, {chunk_frames}"
            )
        if stem_channels and (
            patch_size != 2 ** len(stem_channels) or stem_channels[-1] != embed_dim
        ):
            raise ValueError(
                "`stem_channels` must have log2(patch_size) entries, the last `embed_dim`. "
                f"Received: {tuple(stem_channels)}, patch_size {patch_size}, embed_dim {embed_dim}"
            )
        self.num_frames = num_frames
        self.num_mels = num_mels
        self.num_chunks = num_chunks
        self.chunk_frames = chunk_frames
        self.patch_size = patch_size
        self.stem_channels = tuple(stem_channels)
        self.embed_dim = embed_dim
        self.depths = tuple(depths)
        self.num_heads = tuple(num_heads)
        self.window_size = window_size
        self.mlp_ratio = mlp_ratio
        self.dropout = dropout
        self.drop_path = drop_path
        self.spec_augment = spec_augment

        policy = self.dtype_policy
        self.mel_norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype="float32", name="mel_norm"
        )
        self.spec_augment_layer = SpecAugment(dtype="float32") if spec_augment else None
        self.patch_embed = (
            ConvStem(stem_channels, dtype=policy, name="stem")
            if stem_channels
            else _dense(embed_dim, policy, "patch_embed")
        )
        self.patch_norm = keras.layers.LayerNormalization(
            epsilon=LAYER_NORM_EPSILON, dtype=policy, name="patch_norm"
        )
        self.stages = []
        grid = (num_chunks * num_mels // patch_size, chunk_frames // patch_size)
        rates = np.linspace(0.0, drop_path, sum(self.depths)).tolist()
        for stage, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
            dim = embed_dim * 2**stage
            for block in range(depth):
                self.stages.append(
                    SwinBlock(
                        grid,
                        dim,
                        heads,
                        window_size,
                        shifted=block % 2 == 1,
                        mlp_ratio=mlp_ratio,
                        dropout=dropout,
                        drop_path=rates.pop(0),
                        dtype=policy,
                        name=f"stage{stage}_block{block}",
                    )
                )
            if stage + 1 < len(self.depths):
                self.stages.append(
                    PatchMerging(grid, dim, dtype=policy, name=f"stage{stage}_merging")
                )
                grid = (grid[0] // 2, grid[1] // 2)
        self.norm = keras.layers.LayerNormalization(
            epsilon=LAYER_NORM_EPSILON, dtype=policy, name="norm"
        )
        self.output_grid = grid
        self.output_dim = dim
        self._resize = (
            bicubic_matrix(num_frames, num_chunks * chunk_frames)
            if num_frames != num_chunks * chunk_frames
            else None
        )
        self.build((None, num_frames, num_mels))

    @classmethod
    def from_preset(cls, preset: str, **overrides) -> Self:
        """Create an encoder at a preset's size, with random weights.

        Args:
            preset: one of `semanticac_keras.presets.PRESETS`.
            **overrides: constructor arguments that replace the preset's.
        """
        return cls(**{**presets.get(preset).audio_encoder, **overrides})

    def build(self, input_shape):
        if self.built:
            return
        self.mel_norm.build(input_shape)
        if self.stem_channels:
            self.patch_embed.build((None, self.num_chunks * self.num_mels, self.chunk_frames, 1))
        else:
            self.patch_embed.build((None, None, self.patch_size**2))
        tokens = (None, None, self.embed_dim)
        self.patch_norm.build(tokens)
        for layer in self.stages:
            layer.build(tokens)
            tokens = layer.compute_output_shape(tokens)
        self.norm.build(tokens)
        self.built = True

    def call(self, log_mels, training=False):
        if tuple(log_mels.shape[1:]) != (self.num_frames, self.num_mels):
            raise ValueError(
                f"log_mels must have shape (B, {self.num_frames}, {self.num_mels}). "
                f"Received: {tuple(log_mels.shape)}"
            )
        x = self.mel_norm(log_mels, training=training)
        if self.spec_augment_layer is not None:
            x = self.spec_augment_layer(x, training=training)
        x = ops.cast(self._fold(x), self.compute_dtype)
        if self.stem_channels:
            x = self.patch_embed(x, training=training)
        else:
            x = self.patch_embed(self._patches(x))
        x = self.patch_norm(x)
        for layer in self.stages:
            x = layer(x, training=training) if isinstance(layer, SwinBlock) else layer(x)
        return ops.reshape(self.norm(x), (-1, *self.output_grid, self.output_dim))

    def _fold(self, x):
        """Stack the chunks of normalised log-mels: (B, chunks·F, chunk_frames, 1)."""
        if self._resize is not None:
            # A constant on the left of a product stays float32 in an int8 export.
            x = ops.matmul(self._resize, x)  # (B, chunks·chunk_frames, F)
        x = ops.reshape(x, (-1, self.num_chunks, self.chunk_frames, self.num_mels))
        x = ops.transpose(x, (0, 1, 3, 2))  # (B, chunks, F, chunk_frames)
        return ops.reshape(x, (-1, self.num_chunks * self.num_mels, self.chunk_frames, 1))

    def _patches(self, x):
        """Cut an image into flat patches, (B, rows * columns, patch_size²)."""
        patch = self.patch_size
        rows = self.num_chunks * self.num_mels // patch
        columns = self.chunk_frames // patch
        x = ops.reshape(x, (-1, patch, columns, patch))  # (B·rows, P, columns, P)
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, rows * columns, patch * patch))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.output_grid, self.output_dim)

    def get_config(self):
        return {
            "num_frames": self.num_frames,
            "num_mels": self.num_mels,
            "num_chunks": self.num_chunks,
            "chunk_frames": self.chunk_frames,
            "patch_size": self.patch_size,
            "stem_channels": list(self.stem_channels),
            "embed_dim": self.embed_dim,
            "depths": list(self.depths),
            "num_heads": list(self.num_heads),
            "window_size": self.window_size,
            "mlp_ratio": self.mlp_ratio,
            "dropout": self.dropout,
            "drop_path": self.drop_path,
            "spec_augment": self.spec_augment,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }


def bicubic_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Build the matrix that resizes one axis bicubically: `matrix @ x`.

    The convention is the one that HTS-AT was trained with: cubic coefficient -0.75, aligned
    corners, repeated edges, and float32 positions (float64 positions give visibly different
    weights). `ops.image.resize` uses another convention and differs by up to 0.8 dB.

    Args:
        size_in: length before resizing.
        size_out: length after resizing.

    Returns:
        float32 (1, size_out, size_in).
    """
    a = np.float32(-0.75)
    scale = np.float32(size_in - 1) / np.float32(size_out - 1)
    position = np.arange(size_out, dtype=np.float32) * scale
    left = np.floor(position)
    offset = (position - left).astype(np.float32)

    def near(d):  # |d| <= 1
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d):  # 1 < |d| < 2
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    weights = (far(offset + 1), near(offset), near(1 - offset), far(2 - offset))
    matrix = np.zeros((size_out, size_in), np.float32)
    for tap, weight in zip((-1, 0, 1, 2), weights, strict=True):
        columns = np.clip(left.astype(np.int64) + tap, 0, size_in - 1)
        np.add.at(matrix, (np.arange(size_out), columns), weight)
    return matrix[None]
