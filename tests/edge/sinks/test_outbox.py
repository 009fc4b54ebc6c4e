"""Retained values that change between publishing and acknowledgement."""

from edge.health import OutputHealth
from edge.sinks.outbox import Outbox


def outbox(*values):
    """An outbox with values of topic `t` under way as messages 0, 1, ..."""
    box = Outbox(10, OutputHealth())
    for number, payload in enumerate(values):
        box.keep("t", payload)
        box.under_way(number, box.next(10))
    return box


def test_a_value_cleared_while_the_previous_one_is_under_way_is_published():
    box = outbox("OFF")
    box.keep("t", "")
    box.acknowledge(0)
    assert box.next(10).payload == ""


def test_a_cleared_topic_is_forgotten_only_after_its_own_acknowledgement():
    box = outbox("OFF", "")
    box.acknowledge(0)
    box.give_back()  # The clearing is not acknowledged yet, so it is published again.
    message = box.next(10)
    assert (message.topic, message.payload) == ("t", "")
    box.under_way(2, message)
    box.acknowledge(2)
    box.give_back()
    assert box.next(10) is None


def test_a_clearing_that_is_revoked_and_repeated_is_published():
    box = outbox("")
    box.keep("t", "ON")
    box.keep("t", "")
    box.acknowledge(0)
    assert box.next(10).payload == ""
