"""Confidence interval of a rate of false accepts."""

import pytest

from training.release.measure import rate_interval


@pytest.mark.parametrize(
    ("events", "low", "high"),
    # From tables of Garwood's limits.
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390)],
)
def test_interval_of_a_rate_is_exact(events, low, high):
    assert rate_interval(events, 2.0) == pytest.approx((low / 2, high / 2), abs=1e-3)
