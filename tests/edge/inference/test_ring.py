"""The ring returns the rows that a list of the entire stream would return."""

import numpy as np
import pytest

from edge.inference.ring import Ring


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("row_shape", [(), (3,)])
@pytest.mark.parametrize("seed", range(4))
def test_rows_match_the_entire_stream(row_shape, seed, dtype):
    rng = np.random.default_rng(seed)
    ring, stream = Ring(50, dtype, row_shape), np.zeros((0, *row_shape), dtype)
    for size in rng.integers(0, 120, 60) // rng.integers(1, 20, 60):
        rows = (1000 * rng.normal(size=(size, *row_shape))).astype(dtype)
        ring.append(rows)
        stream = np.concatenate([stream, rows])
        assert ring.seen == len(stream)
        start = int(rng.integers(max(0, ring.seen - 50), ring.seen + 1))
        stop = int(rng.integers(start, ring.seen + 1))
        view = ring.rows(start, stop)
        np.testing.assert_array_equal(view, stream[start:stop])
        assert view.dtype == dtype
        assert view.flags.c_contiguous
        assert not view.flags.owndata


@pytest.mark.parametrize(
    ("start", "stop", "held"), [(2, 6, "3 .. 7"), (5, 8, "3 .. 7"), (5, 4, "3 .. 7")]
)
def test_rows_outside_the_buffer_are_refused(start, stop, held):
    ring = Ring(4, np.float32)
    ring.append(np.ones(7, np.float32))
    with pytest.raises(ValueError, match=rf"must be in {held}. Received: {start} to {stop}"):
        ring.rows(start, stop)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (4, 6, [4, 5]),
        (0, 5, [3, 4]),  # overwritten at the start
        (5, 9, [5, 6]),  # not there yet at the end
        (-5, 99, [3, 4, 5, 6]),
        (0, 3, []),
        (7, 9, []),
        (9, 12, []),
        (5, 4, []),
    ],
)
def test_available_rows_are_those_in_the_buffer(start, stop, expected):
    ring = Ring(4, np.int16)
    ring.append(np.arange(7, dtype=np.int16))
    rows = ring.available(start, stop)
    assert rows.tolist() == expected
    assert rows.dtype == np.int16


def test_rows_before_a_skip_are_dropped():
    ring = Ring(4, np.float32)
    ring.append(np.arange(3, dtype=np.float32))
    ring.skip(10)
    assert (ring.seen, ring.oldest) == (13, 13)
    assert ring.available(0, 13).size == 0
    ring.append(np.array([13, 14], np.float32))
    assert ring.oldest == 13
    assert ring.rows(13, 15).tolist() == [13, 14]
    assert ring.available(0, 99).tolist() == [13, 14]
    with pytest.raises(ValueError, match=r"must be in 13 \.\. 15"):
        ring.rows(12, 14)
    ring.append(np.arange(15, 20, dtype=np.float32))
    assert ring.available(0, 99).tolist() == [16, 17, 18, 19]


def test_reset_starts_a_new_stream():
    ring = Ring(4, np.float32)
    ring.append(np.ones(9, np.float32))
    ring.skip(3)
    ring.reset()
    assert (ring.seen, ring.oldest) == (0, 0)
    ring.append(np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(ring.rows(0, 3), [0, 1, 2])
