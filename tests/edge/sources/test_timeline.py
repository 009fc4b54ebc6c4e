"""The timeline distinguishes lost sound from late chunks and clock drift."""

import math

import numpy as np
import pytest

from edge.sources import Gap
from edge.sources.timeline import Timeline, clock

BLOCK_SECONDS = 0.1
BLOCK = np.zeros(1, np.float32)


class SoundCard:
    """A simulated sound card that pushes its blocks into a timeline.

    Args:
        drift: relative speed of its clock: 1e-4 is 0.01 % fast.
        jitter_seconds: largest random delay of a block.
    """

    def __init__(self, drift=0.0, jitter_seconds=0.0, seed=0):
        self.timeline = Timeline(1000.0, tolerance_seconds=0.1, settle_seconds=0.5)
        self.now = 1000.0
        self.items = []
        self._block_seconds = BLOCK_SECONDS / (1 + drift)
        self._jitter = jitter_seconds
        self._rng = np.random.default_rng(seed)
        self._read_at = self.now

    def play(self, seconds):
        """Deliver `seconds` of sound."""
        for _ in range(round(seconds / BLOCK_SECONDS)):
            self.now += self._block_seconds
            self._read(self.now + self._rng.uniform(0, self._jitter))

    def lose(self, seconds):
        """Lose `seconds` of sound."""
        self.now += seconds

    def delay(self, seconds, buffer_seconds=1e9):
        """Deliver nothing for `seconds`, then everything in the buffer in a burst."""
        blocks = round(seconds / BLOCK_SECONDS)
        self.now += seconds
        for _ in range(min(blocks, math.floor(buffer_seconds / BLOCK_SECONDS))):
            self._read(self.now)

    def interrupt(self, reason):
        self.items += self.timeline.interrupt(self.now, reason)

    def _read(self, at):
        # A late block delays the blocks after it.
        self._read_at = max(self._read_at, at)
        self.items += self.timeline.push(self._read_at, BLOCK, BLOCK_SECONDS)

    @property
    def gaps(self):
        return [item for item in self.items if isinstance(item, Gap)]

    @property
    def missing_seconds(self):
        return sum(gap.seconds for gap in self.gaps)

    @property
    def stream_seconds(self):
        return self.missing_seconds + BLOCK_SECONDS * (len(self.items) - len(self.gaps))


@pytest.mark.parametrize("drift", [-3e-4, 5e-5, 3e-4])
@pytest.mark.parametrize("jitter_seconds", [0.04, 0.15])
def test_drift_and_jitter_are_not_gaps(drift, jitter_seconds):
    card = SoundCard(drift, jitter_seconds)
    card.play(2400)
    assert card.gaps == []
    assert len(card.items) > 24_000 - 10


@pytest.mark.parametrize("seconds", [0.3, 2.0, 60.0])
def test_late_sound_is_not_lost(seconds):
    card = SoundCard(jitter_seconds=0.04)
    for _ in range(20):
        card.play(10)
        card.delay(seconds)
    card.play(1)
    assert card.gaps == []
    assert card.stream_seconds == pytest.approx(20 * (10 + seconds) + 1)


@pytest.mark.parametrize("seconds", [0.15, 1.0, 100.0])
@pytest.mark.parametrize("drift", [-1e-4, 1e-4])
def test_lost_sound_is_one_gap_of_its_length_in_its_place(seconds, drift):
    card = SoundCard(drift, jitter_seconds=0.04)
    card.play(600)
    card.lose(seconds)
    card.play(60)
    (gap,) = card.gaps
    assert gap.seconds == pytest.approx(seconds, abs=0.05)
    assert gap.reason == "samples were lost"
    assert card.items.index(gap) == pytest.approx(6000, abs=1)


def test_a_buffer_overrun_has_its_gap_after_the_buffered_sound():
    card = SoundCard()
    card.play(10)
    card.delay(5.0, buffer_seconds=2.0)
    card.play(10)
    (gap,) = card.gaps
    assert gap.seconds == pytest.approx(3.0)
    assert card.items.index(gap) == pytest.approx(120, abs=1)


def test_small_losses_accumulate():
    card = SoundCard()
    for _ in range(100):
        card.play(1)
        card.lose(0.02)
    card.play(1)
    assert card.missing_seconds == pytest.approx(2.0, abs=0.2)
    assert min(gap.seconds for gap in card.gaps) > 0.1


def test_an_outage_is_reported_immediately_and_its_rest_later():
    card = SoundCard(drift=1e-4, jitter_seconds=0.04)
    card.play(100)
    card.lose(3.0)
    card.interrupt("unplugged")
    (first,) = card.gaps
    assert first == Gap(pytest.approx(3.0, abs=0.05), "unplugged")
    card.lose(40.0)
    card.interrupt("still nothing")
    assert len(card.gaps) == 1
    card.play(100)
    (_, second) = card.gaps
    assert second == Gap(pytest.approx(40.0, abs=0.05), "unplugged")
    assert card.items.index(second) == card.items.index(first) + 1


def test_errors_of_outages_do_not_accumulate():
    card = SoundCard(jitter_seconds=0.04)
    for _ in range(200):
        card.play(2)
        card.interrupt("unplugged")
        card.lose(1)
    card.play(2)
    assert card.stream_seconds == pytest.approx(card.now - 1000, abs=0.1)


def test_a_connection_that_breaks_before_it_settles_loses_nothing():
    card = SoundCard()
    card.play(0.3)
    card.interrupt("unplugged")
    card.lose(1)
    card.play(0.3)
    card.interrupt("unplugged")
    card.lose(1)
    card.play(1)
    assert len(card.items) - len(card.gaps) == 16
    assert card.stream_seconds == pytest.approx(card.now - 1000)


def test_time_without_a_source_at_the_start_is_a_gap():
    card = SoundCard()
    card.lose(1)
    card.interrupt("absent")
    card.lose(6)
    card.play(10)
    assert card.items[0] == Gap(pytest.approx(7.0), "absent")


def test_a_slow_start_is_not_a_gap():
    card = SoundCard()
    card.lose(7)
    card.play(10)
    assert card.gaps == []


def test_with_infinite_tolerance_only_outages_are_gaps():
    timeline = Timeline(0.0, tolerance_seconds=math.inf, settle_seconds=0.0)
    items = timeline.push(10.0, BLOCK, 1.0)  # zero is at 9
    items += timeline.push(30.0, BLOCK, 1.0)
    items += timeline.push(30.1, BLOCK, 18.0)  # the stream's time is 20, the clock's 21.1
    items += timeline.interrupt(31.0, "gone")
    assert [item.seconds for item in items if isinstance(item, Gap)] == [
        pytest.approx(2.0, abs=0.1)
    ]


def test_the_clock_is_monotonic():
    before = clock()
    assert 0 <= clock() - before < 1
