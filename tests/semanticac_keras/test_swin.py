import keras
import numpy as np
import pytest
from keras import ops

from semanticac_keras.swin import (
    PatchMerging,
    SwinBlock,
    _relative_position_index,
    _roll,
    _shift_mask,
)


def numpy(x):
    return ops.convert_to_numpy(x)


def tokens(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shift", [-3, -1, 0, 2, 4])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_roll_is_a_cyclic_shift(shift, axis, training):
    x = tokens(2, 6, 8, 3)
    by = (shift, 0) if axis == 1 else (0, shift)
    rolled = _roll(ops.convert_to_tensor(x), by, training)
    np.testing.assert_array_equal(numpy(rolled), np.roll(x, -shift, axis))


@pytest.mark.parametrize("window", [(2, 2), (8, 8), (4, 8)])
def test_relative_position_index_depends_on_the_offset_alone(window):
    size = window[0] * window[1]
    index = _relative_position_index(window).reshape(size, size)
    places = [(row, column) for row in range(window[0]) for column in range(window[1])]
    rows_of = {}
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            rows_of.setdefault((row - other_row, column - other_column), set()).add(index[i, j])
    assert all(len(rows) == 1 for rows in rows_of.values())
    # Row-major over offsets from -(M - 1) up, as the reference's table is.
    ordered = [rows_of[offset].pop() for offset in sorted(rows_of)]
    assert ordered == list(range((2 * window[0] - 1) * (2 * window[1] - 1)))


def test_shift_mask_separates_tokens_that_were_not_adjacent():
    grid, window, shift = (8, 8), (4, 4), (2, 2)
    mask = _shift_mask(grid, window, shift)
    assert mask.shape == (4, 1, 16, 16)
    # Label each token with its place before the shift, cut into the shifted windows.
    place = np.stack(np.indices(grid), -1)
    shifted = np.roll(place, (-2, -2), axis=(0, 1))
    windows = shifted.reshape(2, 4, 2, 4, 2).transpose(0, 2, 1, 3, 4).reshape(4, 16, 2)
    distance = np.abs(windows[:, :, None] - windows[:, None]).max(-1)
    np.testing.assert_array_equal(mask[:, 0] == 0, distance < 4)


@pytest.mark.parametrize(
    ("grid", "window_size", "shifted"),
    [((8, 8), 4, False), ((8, 8), 4, True), ((4, 16), 8, True), ((4, 8), 8, True)],
)
@pytest.mark.parametrize("training", [False, True])
def test_merge_inverts_partition(grid, window_size, shifted, training):
    block = SwinBlock(grid, 8, 2, window_size, shifted)
    x = ops.convert_to_tensor(tokens(2, grid[0] * grid[1], 8))
    merged = block._merge(block._partition(x, training), training)
    np.testing.assert_array_equal(numpy(merged), numpy(x))


def test_shift_is_zero_where_the_window_spans_the_axis():
    assert SwinBlock((8, 8), 8, 2, 8, shifted=True).shift == (0, 0)
    rectangular = SwinBlock((4, 16), 8, 2, 8, shifted=True)
    assert (rectangular.window, rectangular.shift) == ((4, 8), (0, 4))


@pytest.mark.parametrize("shifted", [False, True])
def test_attention_is_local_to_its_window(shifted):
    keras.utils.set_random_seed(0)
    block = SwinBlock((8, 8), 8, 2, 4, shifted)
    x = tokens(1, 64, 8)
    block(x)
    for dense in (block.attention.qkv, block.attention.proj):
        dense.kernel.assign(50 * dense.kernel)  # initial weights give almost uniform attention
    changed = x.copy()
    changed[0, 0, 0] += 1.0  # the corner; one channel, as the norm ignores a common change
    reached = np.abs(numpy(block(changed)) - numpy(block(x))).max(-1).reshape(8, 8) > 1e-6
    size = 2 if shifted else 4  # the corner's window, halved by the shift
    expected = np.zeros((8, 8), bool)
    expected[:size, :size] = True
    np.testing.assert_array_equal(reached, expected)


def test_patch_merging_is_row_major():
    layer = PatchMerging((2, 4), 1)
    layer.norm = keras.layers.Identity()
    layer.reduction = keras.layers.Identity()
    x = np.arange(8, dtype=np.float32).reshape(1, 8, 1)
    np.testing.assert_array_equal(numpy(layer(x))[0], [[0, 1, 4, 5], [2, 3, 6, 7]])


def test_inconsistent_sizes_are_rejected():
    with pytest.raises(ValueError, match="divide the grid"):
        SwinBlock((8, 12), 8, 2, 8)
    with pytest.raises(ValueError, match="`num_heads` must divide"):
        SwinBlock((8, 8), 8, 3)
    with pytest.raises(ValueError, match="must be even"):
        PatchMerging((3, 4), 8)


def test_config_round_trip():
    block = SwinBlock((4, 16), 8, 2, 8, shifted=True, mlp_ratio=2.0, drop_path=0.2)
    copy = SwinBlock.from_config(block.get_config())
    assert copy.get_config() == block.get_config()
