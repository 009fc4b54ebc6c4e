"""What is still to be said, whatever comes between a value's sending and its receipt."""

from edge.health import OutputHealth
from edge.sinks.outbox import Outbox


def outbox(*values):
    """With values of topic `t`, each taken and under way by the numbers 0, 1, ..."""
    box = Outbox(10, OutputHealth())
    for number, payload in enumerate(values):
        box.keep("t", payload)
        box.under_way(number, box.next(10))
    return box


def test_a_value_that_is_cleared_while_the_last_one_is_under_way():
    box = outbox("OFF")
    box.keep("t", "")
    box.acknowledge(0)
    assert box.next(10).payload == ""


def test_a_clearing_counts_once_it_is_acknowledged_itself():
    box = outbox("OFF", "")
    box.acknowledge(0)
    box.give_back()  # before the clearing is acknowledged: it is due again
    message = box.next(10)
    assert (message.topic, message.payload) == ("t", "")
    box.under_way(2, message)
    box.acknowledge(2)
    box.give_back()
    assert box.next(10) is None


def test_a_clearing_that_is_taken_back_and_repeated():
    box = outbox("")
    box.keep("t", "ON")
    box.keep("t", "")
    box.acknowledge(0)
    assert box.next(10).payload == ""
