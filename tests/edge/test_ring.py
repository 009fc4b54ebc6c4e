"""The ring holds what a list of everything would end with."""

import numpy as np
import pytest

from edge.ring import Ring


@pytest.mark.parametrize("row_shape", [(), (3,)])
@pytest.mark.parametrize("seed", range(4))
def test_window_is_the_tail_of_all_rows(row_shape, seed):
    rng = np.random.default_rng(seed)
    ring, everything = Ring(50, row_shape), np.zeros((0, *row_shape), np.float32)
    for size in rng.integers(0, 120, 60) // rng.integers(1, 20, 60):
        rows = rng.normal(size=(size, *row_shape)).astype(np.float32)
        ring.append(rows)
        everything = np.concatenate([everything, rows])
        assert ring.seen == len(everything)
        if ring.seen >= 50:
            window = ring.window()
            np.testing.assert_array_equal(window, everything[-50:])
            assert window.flags.c_contiguous
            assert not window.flags.owndata


def test_unfilled_window_is_refused():
    ring = Ring(4)
    ring.append(np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"needs 4 rows\. Received: 3"):
        ring.window()


def test_reset():
    ring = Ring(4)
    ring.append(np.ones(9, np.float32))
    ring.reset()
    ring.append(np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(ring.window(), [0, 1, 2, 3])
