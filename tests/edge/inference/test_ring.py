"""The ring holds what a list of everything would end with."""

import numpy as np
import pytest

from edge.inference.ring import Ring


@pytest.mark.parametrize("row_shape", [(), (3,)])
@pytest.mark.parametrize("seed", range(4))
def test_rows_are_those_of_all_rows(row_shape, seed):
    rng = np.random.default_rng(seed)
    ring, everything = Ring(50, row_shape), np.zeros((0, *row_shape), np.float32)
    for size in rng.integers(0, 120, 60) // rng.integers(1, 20, 60):
        rows = rng.normal(size=(size, *row_shape)).astype(np.float32)
        ring.append(rows)
        everything = np.concatenate([everything, rows])
        assert ring.seen == len(everything)
        start = int(rng.integers(max(0, ring.seen - 50), ring.seen + 1))
        stop = int(rng.integers(start, ring.seen + 1))
        view = ring.rows(start, stop)
        np.testing.assert_array_equal(view, everything[start:stop])
        assert view.flags.c_contiguous
        assert not view.flags.owndata


@pytest.mark.parametrize(
    ("start", "stop", "held"), [(2, 6, "3 .. 7"), (5, 8, "3 .. 7"), (5, 4, "3 .. 7")]
)
def test_rows_that_are_not_there_are_refused(start, stop, held):
    ring = Ring(4)
    ring.append(np.ones(7, np.float32))
    with pytest.raises(ValueError, match=rf"must be in {held}. Received: {start} to {stop}"):
        ring.rows(start, stop)


def test_reset():
    ring = Ring(4)
    ring.append(np.ones(9, np.float32))
    ring.reset()
    ring.append(np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(ring.rows(0, 3), [0, 1, 2])
