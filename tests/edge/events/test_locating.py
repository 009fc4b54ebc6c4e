"""Onset and offset follow the level, or the share of a window where the level is steady."""

import numpy as np
import pytest

from edge.events.locating import DETECTED_SHARE, Locator
from edge.inference.streaming import Classification

QUIET, LOUD = -60.0, -40.0
NOTHING = np.zeros(0, np.float32)


def locate(levels_dbfs, lookback=9, seconds=5.0):
    """A locator with windows that start at 0 s, 1 s, ..."""
    locator = Locator(lookback)
    for index, level_dbfs in enumerate(levels_dbfs):
        locator.append(
            Classification(index, index + seconds, NOTHING, NOTHING, (), NOTHING, level_dbfs)
        )
    return locator


def test_the_first_window_of_a_stream_is_its_own_onset():
    assert locate([LOUD]).onset(0) == 0.0
    assert locate([LOUD, LOUD, LOUD]).onset(2) == 0.0


def test_a_rise_of_the_level_places_the_onset():
    """The rise is between the ends of two windows, 8 s and 9 s, whichever window detects it."""
    locator = locate([QUIET, QUIET, QUIET, QUIET, LOUD, LOUD, LOUD])
    assert [locator.onset(back) for back in (0, 1, 2)] == [8.5, 8.5, 8.5]


def test_the_first_of_several_rises_counts():
    assert locate([-60, -60, -50, -46, -40]).onset(0) == 6.5


def test_a_rise_below_three_decibels_does_not_count():
    by_share = (9.0 + 8.0) / 2 - DETECTED_SHARE * 5.0
    assert locate([QUIET, QUIET, QUIET, QUIET, QUIET + 2.9]).onset(0) == pytest.approx(by_share)
    assert locate([QUIET, QUIET, QUIET, QUIET, QUIET + 3.0]).onset(0) == 8.5


def test_a_rise_before_the_first_window_with_the_sound_does_not_count():
    levels = [QUIET, *[LOUD] * 7]  # the rise is at 5.5 s
    assert locate(levels[:6]).onset(0) == 5.5  # the window starts at 5 s
    assert locate(levels).onset(0) == pytest.approx((11.0 + 12.0) / 2 - DETECTED_SHARE * 5.0)


def test_a_fall_of_the_level_places_the_offset():
    locator = locate([LOUD, LOUD, LOUD, QUIET, QUIET])
    assert [locator.offset(back) for back in (2, 3)] == [2.5, 2.5]


def test_the_last_of_several_falls_counts():
    assert locate([-40, -40, -46, -50, -60, -60]).offset(4) == 3.5


def test_a_fall_in_the_newest_window_is_its_start():
    assert locate([LOUD, LOUD, LOUD, QUIET]).offset(1) == 3.0


def test_without_a_fall_the_offset_is_a_share_of_the_window():
    locator = locate([LOUD] * 8)
    assert locator.offset(0) == pytest.approx(7.0 + DETECTED_SHARE * 5.0)
    assert locator.offset(3) == pytest.approx(4.5 + DETECTED_SHARE * 5.0)


def test_the_loudest_window_is_among_the_newest():
    locator = locate([LOUD, QUIET - 1, QUIET, QUIET - 2])
    assert [locator.loudest(back) for back in range(4)] == [QUIET - 2, QUIET, QUIET, LOUD]


def test_windows_are_dropped_as_soon_as_no_query_reaches_them():
    locator = locate([LOUD, *[QUIET] * 8], lookback=3)
    # The oldest window of a query starts at 5 s, where the first window ends.
    assert locator.loudest(99) == LOUD
    assert locate([LOUD, *[QUIET] * 9], lookback=3).loudest(99) == QUIET


def test_the_window_before_the_lookback_is_kept():
    """Windows that do not overlap: an onset needs the end of the window before."""
    locator = locate([QUIET] * 10, lookback=2, seconds=1.0)
    assert locator.onset(2) == pytest.approx((7.0 + 8.0) / 2 - DETECTED_SHARE)


def test_after_clear_the_next_window_is_the_first():
    locator = locate([LOUD] * 4)
    locator.clear()
    locator.append(Classification(20.0, 25.0, NOTHING, NOTHING, (), NOTHING, QUIET))
    assert locator.onset(0) == 20.0
    assert locator.loudest(99) == QUIET
