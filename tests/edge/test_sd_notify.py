"""The messages that the notifier sends to systemd, and when it sends none."""

import os
import socket

import pytest

from edge.sd_notify import Notifier

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX") or os.name != "posix", reason="UNIX datagram sockets"
)


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket address, and a function that takes the messages so far."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        yield address, lambda: received(receiver)


def received(receiver):
    receiver.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(receiver.recv(4096).decode())
        except BlockingIOError:
            return messages


@pytest.fixture
def monotonic(monkeypatch):
    """`monotonic(seconds)` sets the clock."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_ready_is_sent_once_until_a_reload(manager):
    address, messages = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready_once()
    notifier.ready_once()
    assert messages() == ["READY=1"]
    notifier.reloading()
    notifier.ready()
    reloading, ready = messages()
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert ready == "READY=1"
    notifier.ready_once()
    notifier.stopping()
    assert messages() == ["STOPPING=1"]


def test_a_status_is_sent_when_it_changes(manager):
    address, messages = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for text in ("listening", "listening", "no sound: Glocke ♪", "listening"):
        notifier.status(text)
    assert messages() == ["STATUS=listening", "STATUS=no sound: Glocke ♪", "STATUS=listening"]


def test_the_watchdog_gets_four_pings_a_period(manager, monotonic):
    address, messages = manager
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "8000000"})
    for tenth in range(80):
        monotonic(tenth / 10)
        notifier.alive()
    assert messages() == ["WATCHDOG=1"] * 4


@pytest.mark.parametrize(
    ("environment", "pings"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, 1),
    ],
)
def test_pings_need_a_watchdog_of_this_process(manager, environment, pings):
    address, messages = manager
    Notifier({"NOTIFY_SOCKET": address} | environment).alive()
    assert messages() == ["WATCHDOG=1"] * pings


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="abstract sockets")
def test_an_at_sign_is_an_abstract_socket():
    name = f"semanticac-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert received(receiver) == ["READY=1"]


def test_without_a_manager_every_call_is_harmless(tmp_path):
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = Notifier(environment | {"WATCHDOG_USEC": "1000000"})
        notifier.ready_once()
        notifier.reloading()
        notifier.alive()
        notifier.status("listening")
        notifier.stopping()


def test_a_full_queue_does_not_block(manager):
    address, messages = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for number in range(3000):
        notifier.status(str(number))
    assert 0 < len(messages()) < 3000
