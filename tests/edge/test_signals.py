"""Signals become requests, and handlers are restored afterwards."""

import os
import signal

import pytest

from edge import signals
from edge.signals import Requests

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers():
    """Handlers that count, before and after each test; signals never reach pytest."""
    counted = []
    previous = {number: signal.signal(number, lambda *_: counted.append(1)) for number in HANDLED}
    yield counted
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop_and_the_second_kills(number):
    with Requests() as requests:
        assert (requests.stop, requests.reload) == (None, False)
        signal.raise_signal(number)
        assert requests.stop is number
        assert signal.getsignal(number) is signal.SIG_DFL
    assert not requests.reload


def test_the_first_of_two_kinds_is_the_reason_to_stop():
    with Requests() as requests:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert requests.stop is signal.SIGINT


@pytest.mark.parametrize(
    ("before", "now", "stops"),
    [(False, False, False), (True, True, False), (True, False, True)],
)
def test_a_hangup_reloads_unless_the_terminal_is_gone(monkeypatch, before, now, stops):
    monkeypatch.setattr(signals, "_is_terminal", lambda: before)
    with Requests() as requests:
        monkeypatch.setattr(signals, "_is_terminal", lambda: now)
        signal.raise_signal(signal.SIGHUP)
        assert requests.reload is not stops
        assert requests.stop is (signal.SIGHUP if stops else None)


def test_every_hangup_asks_again():
    with Requests() as requests:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
            assert requests.reload
            requests.reload = False


def test_previous_handlers_are_restored(handlers):
    with Requests():
        signal.raise_signal(signal.SIGTERM)
    for number in HANDLED:
        signal.raise_signal(number)
    assert len(handlers) == 3


def test_an_ignored_interrupt_stays_ignored():
    """Shells start background jobs with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Requests() as requests:
        signal.raise_signal(signal.SIGINT)
        assert requests.stop is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
