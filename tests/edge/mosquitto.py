"""A real MQTT broker for tests, with TLS, users and an access list, that can be restarted."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import pytest

USER, PASSWORD = "listener", "geheim ♪"
WATCHER, WATCHER_PASSWORD = "watcher", "watching"
# The listener writes its own topics, and reads and writes its discovery.
ACCESS = f"""
user {USER}
topic write semanticac/#
topic readwrite homeassistant/device/#
user {WATCHER}
topic readwrite #
"""


def require() -> None:
    """Skip the test if a tool is missing."""
    for tool in ("mosquitto", "mosquitto_passwd", "mosquitto_sub", "openssl"):
        if shutil.which(tool, path=_path()) is None:
            pytest.skip(f"needs {tool} (apt-get install mosquitto mosquitto-clients openssl)")


class Authority:
    """A certificate authority and its server certificate for `localhost` and 127.0.0.1."""

    def __init__(self, directory: Path, name: str = "Test CA") -> None:
        self.ca_file = directory / "ca.crt"
        self.server_certificate = directory / "server.crt"
        self.server_key = directory / "server.key"
        key, request = directory / "ca.key", directory / "server.csr"
        extensions = directory / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _run(
            *("openssl", "req", "-x509", *curve, "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", key, "-out", self.ca_file),
        )
        _run(
            *("openssl", "req", *curve, "-subj", "/CN=localhost"),
            *("-keyout", self.server_key, "-out", request),
        )
        _run(
            *("openssl", "x509", "-req", "-days", "2", "-in", request, "-extfile", extensions),
            *("-CA", self.ca_file, "-CAkey", key, "-CAcreateserial"),
            *("-out", self.server_certificate),
        )


class Mosquitto:
    """A broker that keeps its port, sessions and retained messages across restarts.

    Args:
        directory: folder of the broker's files.
        authority: enables TLS.
        users: passwords by user; None allows anonymous clients.
        access: access list in the format of mosquitto's `acl_file`.
    """

    def __init__(
        self,
        directory: Path,
        authority: Authority | None = None,
        users: dict[str, str] | None = None,
        access: str | None = None,
    ) -> None:
        require()
        self.directory = directory
        self.authority = authority
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'false' if users else 'true'}",
            "persistence true",
            f"persistence_location {directory}/",
            "log_type all",
            f"log_dest file {directory / 'log'}",
        ]
        if os.geteuid() == 0:
            lines.append("user root")
        if authority is not None:
            lines += [
                f"certfile {authority.server_certificate}",
                f"keyfile {authority.server_key}",
            ]
        if users:
            lines.append(f"password_file {directory / 'passwords'}")
            self.set_users(users)
        if access is not None:
            (directory / "access").write_text(access)
            lines.append(f"acl_file {directory / 'access'}")
        (directory / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    def set_users(self, users: dict[str, str]) -> None:
        """Replace the passwords; takes effect at the next start."""
        (self.directory / "passwords").write_text("")
        for user, password in users.items():
            _run("mosquitto_passwd", "-b", self.directory / "passwords", user, password)

    def start(self) -> None:
        """Start, and wait until the port accepts connections."""
        configuration = self.directory / "mosquitto.conf"
        self._process = subprocess.Popen(["mosquitto", "-c", configuration], env=_environment())
        deadline = time.monotonic() + 10
        while True:
            assert self._process.poll() is None, self.log()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def stop(self) -> None:
        """Stop with SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        """Stop the process: connections stay open, but get no answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """The log so far."""
        log = self.directory / "log"
        return log.read_text() if log.exists() else ""

    def url(self, user: str | None = USER) -> str:
        """URL for `Broker.from_url`, without a password."""
        scheme = "mqtt" if self.authority is None else "mqtts"
        return f"{scheme}://{user + '@' if user else ''}localhost:{self.port}"


class Watcher:
    """A subscriber with a persistent session, which misses no message while the broker restarts.

    Attributes:
        messages: (topic, payload, retained) in order of arrival.
    """

    def __init__(
        self,
        broker: Mosquitto,
        topic: str = "#",
        user: str | None = WATCHER,
        password: str = WATCHER_PASSWORD,
    ) -> None:
        self.messages: list[tuple[str, str, bool]] = []
        self._broker = broker
        self._arrived = threading.Condition()
        command = ["mosquitto_sub", "-h", "localhost", "-p", str(broker.port)]
        command += ["-i", "watcher", "-c", "-q", "1", "-t", topic, "-F", "%r\t%t\t%p"]
        if user is not None:
            command += ["-u", user, "-P", password]
        if broker.authority is not None:
            command += ["--cafile", str(broker.authority.ca_file)]
        subscribed = broker.log().count("Sending SUBACK to watcher")
        # `stdbuf` turns off buffering of the output.
        self._process = subprocess.Popen(
            ["stdbuf", "-oL", *command], stdout=subprocess.PIPE, env=_environment()
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_until(lambda: broker.log().count("Sending SUBACK to watcher") > subscribed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def on(self, topic: str) -> list[str]:
        """Payloads received on a topic."""
        return [payload for on, payload, _ in list(self.messages) if on == topic]

    def wait(self, topic: str, count: int = 1, seconds: float = 10) -> list[str]:
        """Wait for at least `count` payloads on a topic; return all of them."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.on(topic)) >= count, seconds)
        payloads = self.on(topic)
        assert len(payloads) >= count, f"expected {count} messages on {topic}. Received: {payloads}"
        return payloads

    def settle(self) -> None:
        """Wait until all messages are acknowledged, or the broker resends them after a restart."""
        sent, acknowledged = r"Sending PUBLISH to watcher \(d., q1", "Received PUBACK from watcher"
        wait_until(
            lambda: (
                len(re.findall(sent, self._broker.log())) == self._broker.log().count(acknowledged)
            )
        )

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            retained, topic, payload = line.decode().rstrip("\n").split("\t", 2)
            with self._arrived:
                self.messages.append((topic, payload, retained == "1"))
                self._arrived.notify_all()


def wait_until(condition, seconds: float = 10) -> None:
    """Poll a condition until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timeout after {seconds} s"
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _path() -> str:
    """Search path with /usr/sbin, where Debian installs the broker."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _path(), "LC_ALL": "C.UTF-8"}


def _run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=_environment())
