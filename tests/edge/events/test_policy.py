"""A policy accepts values in their ranges and refuses all others."""

import math

import numpy as np
import pytest

from edge.events.policy import Policy, is_unknown
from edge.inference.streaming import Classification


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"threshold": 1.0, "thresholds": {"dog": 1e-9}, "release": 1.0},
        {"smoothing_windows": 1, "refractory_seconds": 0.0},
        {"min_seconds": 5.0, "max_seconds": 5.0},
        {"cosine_floor": -1.0},
        {"cosine_floor": 1.0, "report_unknown": True},
    ],
)
def test_the_ends_of_the_ranges_are_accepted(values):
    policy = Policy(**values)
    assert {name: getattr(policy, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0.0}, "threshold of 'threshold' must be above 0, at most 1. Received: 0"),
        ({"thresholds": {"dog": 1.5}}, "threshold of 'dog' must be above 0, at most 1"),
        ({"thresholds": {"dog": math.nan}}, "threshold of 'dog'"),
        ({"smoothing_windows": 0}, "smoothing_windows must be at least 1"),
        ({"smoothing_windows": 2.5}, "smoothing_windows"),
        ({"release": 1.1}, "release must be above 0, at most 1"),
        ({"min_seconds": -1.0}, "min_seconds must be at least 0"),
        ({"min_seconds": 9.0, "max_seconds": 5.0}, "max_seconds must be finite, above 0 and at"),
        ({"max_seconds": math.inf}, "max_seconds"),
        ({"refractory_seconds": math.nan}, "refractory_seconds"),
        ({"cosine_floor": 2.0}, "cosine_floor must be in -1 .. 1"),
        ({"report_unknown": True}, "report_unknown must be used with a cosine_floor"),
    ],
)
def test_a_policy_out_of_range_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Policy(**values)


def classification(*cosines, gated=False):
    nothing = np.zeros(0, np.float32)
    values = np.array(cosines, np.float32)
    return Classification(0.0, 5.0, values, nothing, ("dog", "rain"), values, -40.0, gated)


def test_unknown_is_sound_without_a_similar_label():
    assert is_unknown(classification(0.25, 0.5), 0.75)
    assert not is_unknown(classification(0.25, 0.75), 0.75)
    assert not is_unknown(classification(0.25, 0.5), None)
    assert not is_unknown(classification(-1.0, -1.0, gated=True), 0.75)
