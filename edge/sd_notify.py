"""Service status for systemd: the protocol of sd_notify(3), one datagram per message."""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends messages to the service manager; without one, every call does nothing.

    No method raises: the service keeps running when its manager does not respond.

    Args:
        environment: mapping with `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" marks an abstract socket, whose address starts with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "0")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Four pings per period, so that a late one does not trigger the watchdog.
        self._ping_seconds = int(microseconds) / 4e6 if is_ours and microseconds.isdigit() else 0.0
        self._last_ping = -float("inf")
        self._is_ready = False
        self._last_status = ""

    def ready(self) -> None:
        """Report that the service is up, or has loaded its new configuration."""
        self._is_ready = True
        self._send("READY=1")

    def ready_once(self) -> None:
        """Report that the service is up, unless that was already reported."""
        if not self._is_ready:
            self.ready()

    def reloading(self) -> None:
        """Report that the service is reloading its configuration; call `ready` when done."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Ping the watchdog when a ping is due; call this as often as you like."""
        now = time.monotonic()
        if self._ping_seconds and now - self._last_ping >= self._ping_seconds:
            self._last_ping = now
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Send a one-line status if it has changed."""
        if text != self._last_status:
            self._last_status = text
            self._send(f"STATUS={text}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                # A manager with a full queue must not block audio processing.
                manager.setblocking(False)
                manager.sendto(message.encode(), self._address)
        except OSError:
            pass


# Windows has neither this clock nor systemd.
_MONOTONIC = getattr(time, "CLOCK_MONOTONIC", 1)
