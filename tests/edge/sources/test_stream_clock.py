"""Stream time maps to the time of day by the least delay, whatever the backlog or the drift."""

import pytest

from edge.sources.stream_clock import StreamClock

UNIX = 1.8e9


class Clocks:
    """Both clocks under the test's control; `elapsed` counts from the stream's start."""

    def __init__(self, monkeypatch):
        self.elapsed = 0.0
        self.set_by = 0.0
        monkeypatch.setattr("edge.sources.stream_clock.clock", lambda: 1000.0 + self.elapsed)
        monkeypatch.setattr("time.time", lambda: UNIX + self.elapsed + self.set_by)


@pytest.fixture
def clocks(monkeypatch):
    return Clocks(monkeypatch)


def take(stream, clocks, elapsed, seconds):
    clocks.elapsed = elapsed
    stream.take(seconds)


def test_before_any_sound_it_is_now(clocks):
    clocks.elapsed = 5.0
    assert StreamClock().unix_time(3.0) == UNIX + 5.0


def test_the_least_delay_counts(clocks):
    stream = StreamClock()
    take(stream, clocks, 1.5, 1.0)
    assert stream.unix_time(1.0) == pytest.approx(UNIX + 1.5)
    take(stream, clocks, 2.1, 2.0)
    assert stream.unix_time(2.0) == pytest.approx(UNIX + 2.1)
    # A chunk that is late by a second was delayed on its way.
    take(stream, clocks, 4.0, 3.0)
    assert stream.unix_time(3.0) == pytest.approx(UNIX + 3.1, abs=0.002)
    assert stream.unix_time(0.0) == pytest.approx(UNIX + 0.1, abs=0.002)


@pytest.mark.parametrize("drift", [-3e-4, 3e-4])
def test_a_sound_card_that_drifts_is_followed(clocks, drift):
    stream = StreamClock()
    for second in range(1, 3601):
        take(stream, clocks, second * (1 + drift), second)
    assert stream.unix_time(3600.0) == pytest.approx(UNIX + 3600 * (1 + drift), abs=0.01)


def test_a_lag_grows_no_faster_than_clocks_drift(clocks):
    stream = StreamClock()
    take(stream, clocks, 1.0, 1.0)
    take(stream, clocks, 111.0, 101.0)  # 10 s late, after 100 s
    assert stream.unix_time(101.0) == pytest.approx(UNIX + 101.1)


def test_a_new_time_of_day_counts_immediately(clocks):
    stream = StreamClock()
    take(stream, clocks, 1.0, 1.0)
    clocks.set_by = 3600.0
    assert stream.unix_time(0.5) == pytest.approx(UNIX + 3600.5)
