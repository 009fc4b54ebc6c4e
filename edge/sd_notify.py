"""Telling systemd how the service is doing: the protocol of sd_notify(3), a datagram a message."""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager; without one, every call does nothing.

    Nothing here raises: a manager that does not listen is no reason to stop listening.

    Args:
        environment: where `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are looked up.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "0")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Four pings a period: one that comes late is not missed.
        self._ping_seconds = int(microseconds) / 4e6 if mine and microseconds.isdigit() else 0.0
        self._last_ping = -float("inf")
        self._is_ready = False
        self._last_status = ""

    def ready(self) -> None:
        """The service is up, or has its new configuration."""
        self._is_ready = True
        self._send("READY=1")

    def ready_once(self) -> None:
        """The service is up; calls after the first do nothing."""
        if not self._is_ready:
            self.ready()

    def reloading(self) -> None:
        """The service reads its configuration again; `ready` says when it is done."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog, if there is one; call it as often as you like."""
        now = time.monotonic()
        if self._ping_seconds and now - self._last_ping >= self._ping_seconds:
            self._last_ping = now
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say in a line what the service does; sent where it changed."""
        if text != self._last_status:
            self._last_status = text
            self._send(f"STATUS={text}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                # A manager with a full queue must not hold up the sound.
                manager.setblocking(False)
                manager.sendto(message.encode(), self._address)
        except OSError:
            pass


# Windows has neither this clock nor systemd.
_MONOTONIC = getattr(time, "CLOCK_MONOTONIC", 1)
