"""The backlog keeps order and length, and drops the oldest sound when it is full."""

import threading

import numpy as np
import pytest

from edge.sources import Gap, SourceError
from edge.sources.backlog import Backlog

RATE = 100


def chunk(seconds, value=0.0):
    return np.full(round(seconds * RATE), value, np.float32)


def drain(backlog):
    items = []
    while (item := backlog.get(0)) is not None:
        items.append(item)
    return items


def test_dropped_sound_becomes_a_gap_of_its_length():
    backlog = Backlog(10 * RATE, RATE)
    for second in range(100):
        backlog.put(chunk(1, second))
    gap, *chunks = drain(backlog)
    assert gap == Gap(pytest.approx(90), "the listener fell behind")
    assert [item[0] for item in chunks] == list(range(90, 100))


def test_gaps_next_to_dropped_sound_are_merged_with_it():
    backlog = Backlog(2 * RATE, RATE)
    backlog.put(chunk(1))
    backlog.put(Gap(5.0, "unplugged"))
    backlog.put(chunk(1))
    backlog.put(Gap(7.0, "unplugged"))
    backlog.put(chunk(1))
    assert drain(backlog)[0] == Gap(pytest.approx(6), "the listener fell behind")

    backlog.put(chunk(1))
    backlog.put(Gap(5.0, "unplugged"))
    backlog.put(chunk(2))
    (gap, rest) = drain(backlog)
    assert gap.seconds == pytest.approx(6)
    assert rest.size == 2 * RATE


def test_adjacent_gaps_are_merged():
    backlog = Backlog(RATE, RATE)
    for _ in range(1000):
        backlog.put(Gap(0.5, "unplugged"))
    assert drain(backlog) == [Gap(500.0, "unplugged")]


def test_a_waiting_writer_drops_nothing():
    backlog = Backlog(2 * RATE, RATE)

    def write():
        for second in range(50):
            backlog.put(chunk(1, second), wait=True)
        backlog.close()

    writer = threading.Thread(target=write)
    writer.start()
    values = []
    while not backlog.ended:
        if (item := backlog.get(5)) is not None:
            values.append(item[0])
    writer.join()
    assert values == list(range(50))


def test_close_releases_a_waiting_writer():
    backlog = Backlog(RATE, RATE)
    backlog.put(chunk(1))
    writer = threading.Thread(target=backlog.put, args=(chunk(1), True))
    writer.start()
    backlog.close(discard=True)
    writer.join(5)
    assert not writer.is_alive()
    assert backlog.get(0) is None


def test_a_failure_is_raised_after_the_last_item():
    backlog = Backlog(RATE, RATE)
    backlog.put(chunk(1))
    backlog.close(SourceError("no more"))
    assert backlog.get(0).size == RATE
    with pytest.raises(SourceError, match="no more"):
        backlog.get(0)
