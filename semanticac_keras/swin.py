"""Swin transformer blocks over a rectangular grid of tokens.

Written for fast exported graphs on a CPU: no tensor has more than four axes, tokens stay
(B, rows * columns, C) between blocks, and the window bias is one constant.
"""

import keras
import numpy as np
from keras import ops

from semanticac_keras.token_dense import TokenDense

# Swin and HTS-AT use PyTorch's default; Keras' 1e-3 moves the encoder's output by 0.08.
LAYER_NORM_EPSILON = 1e-5

Grid = tuple[int, int]


def exact_gelu(x):
    """GELU by the error function, never by the tanh approximation."""
    return ops.gelu(x, approximate=False)


def _dense(units: int, dtype, name: str, use_bias: bool = True) -> TokenDense:
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return TokenDense(
        units, use_bias=use_bias, kernel_initializer=initializer, dtype=dtype, name=name
    )


def _layer_norm(dtype, name: str) -> keras.layers.LayerNormalization:
    return keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=dtype, name=name)


@keras.saving.register_keras_serializable("semanticac_keras")
class WindowAttention(keras.layers.Layer):
    """Multi-head self-attention inside windows, with a learned relative position bias.

    Args:
        dim: channels C.
        num_heads: attention heads H; must divide `dim`.
        window: rows and columns (Mh, Mw) of a window.
        dropout: dropout rate of the attention weights, in [0, 1).

    Call arguments:
        x: (B * nW, Mh * Mw, C), all windows of all clips.
        window_mask: optional (nW, 1, M, M) with M = Mh * Mw, added to the logits of each window.

    Returns:
        (B * nW, Mh * Mw, C).

    Source: Liu et al. 2021, "Swin Transformer", eq. 4.
    """

    def __init__(self, dim: int, num_heads: int, window: Grid, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if dim % num_heads:
            raise ValueError(f"`num_heads` must divide `dim`. Received: {num_heads}, {dim}")
        self.dim = dim
        self.num_heads = num_heads
        self.window: Grid = (window[0], window[1])
        self.dropout = dropout
        self.qkv = _dense(3 * dim, self.dtype_policy, "qkv")
        self.proj = _dense(dim, self.dtype_policy, "proj")
        self.attention_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.relative_position_index = _relative_position_index(self.window)

    def build(self, input_shape):
        rows, columns = self.window
        self.qkv.build(input_shape)
        self.proj.build(input_shape)
        self.relative_position_bias_table = self.add_weight(
            shape=((2 * rows - 1) * (2 * columns - 1), self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="relative_position_bias_table",
        )
        self.built = True

    def call(self, x, window_mask=None, training=False):
        length, heads, head_dim = x.shape[1], self.num_heads, self.dim // self.num_heads
        qkv = ops.reshape(self.qkv(x), (-1, length, 3 * heads, head_dim))
        qkv = ops.transpose(qkv, (0, 2, 1, 3))  # (B·nW, 3H, M, d)
        query, key, value = ops.split(qkv, 3, axis=1)
        query = query * (head_dim**-0.5)
        logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # (B·nW, H, M, M)
        bias = self._bias()  # (H, M, M)
        if window_mask is None:
            logits = logits + bias
        else:
            num_windows = window_mask.shape[0]
            bias = bias + ops.cast(window_mask, bias.dtype)  # (nW, H, M, M)
            stacked = (num_windows, heads * length, length)
            logits = ops.reshape(logits, (-1, *stacked)) + ops.reshape(bias, stacked)
            logits = ops.reshape(logits, (-1, heads, length, length))
        weights = self.attention_dropout(ops.softmax(logits, axis=-1), training=training)
        x = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # (B·nW, M, H, d)
        return self.proj(ops.reshape(x, (-1, length, self.dim)))

    def _bias(self):
        """Relative position bias of each head, (H, M, M)."""
        length = self.window[0] * self.window[1]
        bias = ops.take(
            self.relative_position_bias_table, self.relative_position_index, axis=0
        )  # (M², H)
        return ops.reshape(ops.transpose(bias), (self.num_heads, length, length))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "num_heads": self.num_heads,
            "window": list(self.window),
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class SwinBlock(keras.layers.Layer):
    """Window attention and an MLP, each with pre-LayerNorm and a residual connection.

    Along an axis where the grid is no longer than the window, the window spans the axis and is not
    shifted.

    Args:
        grid: rows and columns of tokens.
        dim: channels C.
        num_heads: attention heads.
        window_size: largest side of a window, in tokens; must divide a longer grid axis.
        shifted: whether to shift the windows by half their size.
        mlp_ratio: ratio of the MLP's hidden channels to C.
        dropout: dropout rate of the MLP's layers and of the attention weights, in [0, 1).
        drop_path: probability that a clip skips a residual branch while training.

    Call arguments:
        x: (B, rows * columns, C).

    Returns:
        (B, rows * columns, C).

    Source: Liu et al. 2021, sections 3.1-3.2.
    """

    def __init__(
        self,
        grid: Grid,
        dim: int,
        num_heads: int,
        window_size: int = 8,
        shifted: bool = False,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.grid: Grid = (grid[0], grid[1])
        self.dim = dim
        self.num_heads = num_heads
        self.window_size = window_size
        self.shifted = shifted
        self.mlp_ratio = mlp_ratio
        self.dropout = dropout
        self.drop_path = drop_path
        rows, columns = self.grid
        height, width = min(window_size, rows), min(window_size, columns)
        self.window: Grid = (height, width)
        self.shift: Grid = (
            height // 2 if shifted and rows > height else 0,
            width // 2 if shifted and columns > width else 0,
        )
        if rows % height or columns % width:
            raise ValueError(
                f"`window_size` must divide the grid. Received: {window_size}, {self.grid}"
            )
        policy = self.dtype_policy
        self.norm1 = _layer_norm(policy, "norm1")
        self.attention = WindowAttention(
            dim, num_heads, self.window, dropout, dtype=policy, name="attention"
        )
        self.norm2 = _layer_norm(policy, "norm2")
        self.fc1 = _dense(int(dim * mlp_ratio), policy, "fc1")
        self.fc2 = _dense(dim, policy, "fc2")
        self.mlp_dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.path_dropout = keras.layers.Dropout(
            drop_path, noise_shape=(None, 1, 1), dtype=policy, name="drop_path"
        )
        self.window_mask = (
            _shift_mask(self.grid, self.window, self.shift) if any(self.shift) else None
        )

    def build(self, input_shape):
        self.norm1.build(input_shape)
        self.attention.build((None, self.window[0] * self.window[1], self.dim))
        self.norm2.build(input_shape)
        self.fc1.build(input_shape)
        self.fc2.build((*input_shape[:-1], self.fc1.units))
        self.built = True

    def call(self, x, training=False):
        windows = self._partition(self.norm1(x), training)
        attended = self._merge(
            self.attention(windows, window_mask=self.window_mask, training=training), training
        )
        x = x + self.path_dropout(attended, training=training)
        hidden = self.mlp_dropout(exact_gelu(self.fc1(self.norm2(x))), training=training)
        hidden = self.mlp_dropout(self.fc2(hidden), training=training)
        return x + self.path_dropout(hidden, training=training)

    def _partition(self, x, training):
        """Tokens to (shifted) windows: (B, rows * columns, C) -> (B * nW, Mh * Mw, C)."""
        (rows, columns), (height, width), dim = self.grid, self.window, self.dim
        if any(self.shift):
            x = ops.reshape(x, (-1, rows, columns, dim))
            x = _roll(x, self.shift, training)
        x = ops.reshape(x, (-1, height, columns // width, width * dim))  # (B·R/Mh, Mh, K/Mw, Mw·C)
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, height * width, dim))

    def _merge(self, x, training):
        """Inverse of `_partition`."""
        (rows, columns), (height, width), dim = self.grid, self.window, self.dim
        x = ops.reshape(x, (-1, columns // width, height, width * dim))
        x = ops.transpose(x, (0, 2, 1, 3))
        if any(self.shift):
            x = ops.reshape(x, (-1, rows, columns, dim))
            x = _roll(x, (-self.shift[0], -self.shift[1]), training)
        return ops.reshape(x, (-1, rows * columns, dim))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "grid": list(self.grid),
            "dim": self.dim,
            "num_heads": self.num_heads,
            "window_size": self.window_size,
            "shifted": self.shifted,
            "mlp_ratio": self.mlp_ratio,
            "dropout": self.dropout,
            "drop_path": self.drop_path,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class PatchMerging(keras.layers.Layer):
    """Merge each 2x2 square of tokens into one with twice the channels.

    The tokens are concatenated in row-major order (00, 01, 10, 11). The reference uses
    column-major order; loading its weights permutes them.

    Args:
        grid: rows and columns of tokens, both even.
        dim: channels C.

    Call arguments:
        x: (B, rows * columns, C).

    Returns:
        (B, rows * columns / 4, 2C).

    Source: Liu et al. 2021, section 3.1.
    """

    def __init__(self, grid: Grid, dim: int, **kwargs):
        super().__init__(**kwargs)
        if grid[0] % 2 or grid[1] % 2:
            raise ValueError(f"`grid` must be even to be halved. Received: {tuple(grid)}")
        self.grid = tuple(grid)
        self.dim = dim
        self.norm = _layer_norm(self.dtype_policy, "norm")
        self.reduction = _dense(2 * dim, self.dtype_policy, "reduction", use_bias=False)

    def build(self, input_shape):
        merged = (input_shape[0], None, 4 * self.dim)
        self.norm.build(merged)
        self.reduction.build(merged)
        self.built = True

    def call(self, x):
        rows, columns = self.grid
        x = ops.reshape(x, (-1, 2, columns // 2, 2 * self.dim))  # (B·R/2, 2, K/2, 2C)
        x = ops.transpose(x, (0, 2, 1, 3))
        x = ops.reshape(x, (-1, rows * columns // 4, 4 * self.dim))
        return self.reduction(self.norm(x))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.grid[0] * self.grid[1] // 4, 2 * self.dim)

    def get_config(self):
        return {**super().get_config(), "grid": list(self.grid), "dim": self.dim}


def _roll(x, shift: Grid, training: bool):
    """Cyclic shift of rows and columns towards index 0, of tokens (B, rows, columns, C).

    Training uses `ops.roll`, whose gradient is cheaper than that of slices. Inference uses slices,
    because `ops.roll` has no TFLite counterpart.
    """
    if training:
        return ops.roll(x, (-shift[0], -shift[1]), axis=(1, 2))
    for axis, by in enumerate(shift, start=1):
        if by:
            split = by if by > 0 else x.shape[axis] + by
            before = (slice(None),) * axis
            halves = [x[(*before, slice(split, None))], x[(*before, slice(split))]]
            x = ops.concatenate(halves, axis)
    return x


def _relative_position_index(window: Grid) -> np.ndarray:
    """Row of the bias table for each pair of positions in a window, int32 (M * M,)."""
    rows, columns = window
    row, column = (axis.ravel() for axis in np.indices(window))
    row_offset = row[:, None] - row[None, :] + rows - 1
    column_offset = column[:, None] - column[None, :] + columns - 1
    return (row_offset * (2 * columns - 1) + column_offset).ravel().astype(np.int32)


def _shift_mask(grid: Grid, window: Grid, shift: Grid) -> np.ndarray:
    """-100 between tokens that are adjacent only by the cyclic shift, else 0: (nW, 1, M, M)."""
    region = np.zeros(grid, np.int64)
    for axis in (0, 1):
        # Regions after the shift: intact windows, then the unwrapped and wrapped part of the last.
        position = np.arange(grid[axis])
        part = (position >= grid[axis] - window[axis]).astype(np.int64)
        if shift[axis]:
            part += position >= grid[axis] - shift[axis]
        region = region * 3 + np.expand_dims(part, 1 - axis)
    height, width = window
    windows = region.reshape(grid[0] // height, height, grid[1] // width, width)
    regions = windows.transpose(0, 2, 1, 3).reshape(-1, height * width)  # (nW, M)
    apart = regions[:, :, None] != regions[:, None, :]
    return np.where(apart, -100.0, 0.0).astype(np.float32)[:, None]
