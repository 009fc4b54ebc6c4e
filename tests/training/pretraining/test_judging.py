"""Agreement of a student with its teacher."""

import numpy as np
import pytest

from training.pretraining.judging import average_precision


@pytest.mark.parametrize(
    ("present", "expected"),
    [([1, 1, 0, 0], 1.0), ([0, 0, 1, 1], (1 / 3 + 2 / 4) / 2), ([1, 0, 1, 0], (1 + 2 / 3) / 2)],
)
def test_average_precision(present: list[int], expected: float) -> None:
    scores = np.array([0.9, 0.8, 0.3, 0.1])
    assert average_precision(scores, np.array(present, bool)) == pytest.approx(expected)
