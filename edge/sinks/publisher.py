"""Publishes to an MQTT broker, and queues messages while it is unreachable."""

import logging
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from edge.health import OutputHealth
from edge.sinks.broker import Broker
from edge.sinks.outbox import Outbox

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.enums import MQTTErrorCode
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_LOGGER = logging.getLogger("semanticac_edge")

# Enough to keep a slow network busy, few to send twice after a lost connection.
_MAX_IN_FLIGHT = 20
_CONNECT_SECONDS = 5.0
_TURN_SECONDS = 1.0
# A shorter connection counts as part of the outage.
_STEADY_SECONDS = 10.0


class Publisher:
    """Publishes from its own thread; the other methods return immediately, in any thread.

    Only that thread talks to the broker, with a new paho client for each connection. All state that
    outlives a connection is in the outbox.

    If the broker is unreachable or refuses the client, connecting is retried forever, at growing
    intervals. The start and the end of an outage are logged, as is the first failure that needs a
    person (user, password, certificate).

    Args:
        broker: the broker to publish to.
        client_id: unique, and the same after a restart.
        will: topic and retained payload that the broker publishes if this process dies.
        subscriptions: for each topic, a handler of its retained payload, called in the publisher's
            thread. On each connection, retained payloads are read before anything is published.
        queue_size: messages of `send` to queue while the broker is unreachable.
        health: holds state and last error, and counts queued and dropped messages.
        backoff_seconds: first and longest wait between two connection attempts.
        keepalive_seconds: a dead connection is detected within one to two times this.
        logger: receives messages about outages and refusals.

    Raises:
        ImportError: if paho-mqtt is not installed.
        ValueError: if the broker's CA file is not readable PEM.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        will: tuple[str, str] | None = None,
        subscriptions: Mapping[str, Callable[[bytes], None]] | None = None,
        queue_size: int = 1000,
        health: OutputHealth | None = None,
        backoff_seconds: tuple[float, float] = (1.0, 30.0),
        keepalive_seconds: int = 30,
        logger: logging.Logger = _LOGGER,
    ) -> None:
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        except ImportError as error:
            raise ImportError(
                "MQTT needs paho-mqtt 2. Install it: pip install 'semanticac-keras[mqtt]'."
            ) from error
        self.broker = broker
        self._settled = threading.Event()
        self._paho = paho
        self._callbacks_version = CallbackAPIVersion.VERSION2
        # Version 5 reports which topics the broker's access list forbids.
        self._protocols = [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311]
        self._client_id = client_id
        self._will = will
        self._subscriptions = dict(subscriptions or {})
        self._queue_size = queue_size
        self._backoff_seconds = backoff_seconds
        self._keepalive_seconds = keepalive_seconds
        self._logger = logger
        self._tls_context = broker.tls_context()
        self._health = health or OutputHealth()
        self._health.ok, self._health.error = False, f"not connected to {broker} yet"
        self._outbox = Outbox(queue_size, self._health)
        self._refused_topics: dict[str, str] = {}

        self._connected_at: float | None = None
        self._ever_connected = False
        self._max_in_flight = _MAX_IN_FLIGHT
        # Why the last connection failed, and whether only a person can fix it.
        self._ended = ""
        self._needs_person = False
        self._lost_at: float | None = None
        self._reported: set[bool] = set()
        self._short_connections = 0

        self._closing = threading.Event()
        self._deadline = float("inf")
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def send(self, topic: str, payload: str, retain: bool = False) -> None:
        """Publish in order, at least once (QoS 1); a full queue drops its oldest message."""
        self._outbox.send(topic, payload, retain)
        self._wake()

    def keep(self, topic: str, payload: str) -> None:
        """Set the retained value of `topic`, now and on each new connection (QoS 1).

        A value replaced before it was sent is skipped. An empty value clears the topic.
        """
        if self._outbox.keep(topic, payload):
            self._wake()

    def offer(self, topic: str, payload: str) -> None:
        """Publish now or never (QoS 0), for values that are useful only while fresh."""
        if self._connected_at is not None:
            self._outbox.offer(topic, payload)
            self._wake()

    def wait_until_settled(self, seconds: float) -> bool:
        """Wait for the first connection attempt; return whether it has ended."""
        return self._settled.wait(seconds)

    def close(self, seconds: float = 3.0) -> None:
        """Publish pending messages for at most `seconds`, and disconnect.

        If the broker is unreachable, connecting is tried once more. The broker publishes the will
        only if time runs out.
        """
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._wake()
        # After the deadline, only a connection attempt already begun delays the thread.
        self._thread.join(seconds + 0.5)
        if self._health.queued:
            self._logger.warning(
                "MQTT: %d messages for %s were not delivered.", self._health.queued, self.broker
            )

    def _run(self) -> None:
        shortest, longest = self._backoff_seconds
        wait = shortest
        while True:
            self._session()
            lasted = 0.0
            if self._connected_at is not None:
                lasted = time.monotonic() - self._connected_at
                self._connected_at = None
            self._outbox.give_back()
            if self._closing.is_set():
                break
            self._report_loss(lasted)
            if lasted >= _STEADY_SECONDS:
                wait = shortest
            self._closing.wait(wait * random.uniform(0.8, 1.2))
            wait = min(2 * wait, longest)
        self._waker.close()
        self._wakened.close()

    def _session(self) -> None:
        """Connect, and publish until the connection ends or, when closing, nothing is left."""
        self._ended, self._needs_person = "", False
        client = self._new_client()
        try:
            client.connect(self.broker.host, self.broker.port, self._keepalive_seconds)
            while not self._ended:
                result = self._turn(client)
                if result != self._paho.MQTT_ERR_SUCCESS:
                    self._ended = self._ended or self._paho.error_string(result).rstrip(".")
                elif self._closing.is_set():
                    if self._connected_at is not None and self._outbox.empty:
                        client.disconnect()
                        return
                    if time.monotonic() > self._deadline:
                        self._ended = "no time left"
        except ssl.SSLCertVerificationError as error:
            self._ended = f"the broker's certificate is not trusted: {error.verify_message}"
            self._needs_person = True
        # The next attempt may succeed, and nothing would restart this thread.
        except Exception as error:
            self._ended = _reason(error)
        finally:
            if (sock := client.socket()) is not None:
                sock.close()

    def _new_client(self) -> "Client":
        client = self._paho.Client(
            self._callbacks_version,
            client_id=self._client_id,
            protocol=self._protocols[0],
            reconnect_on_failure=False,
        )
        left = self._deadline - time.monotonic()
        client.connect_timeout = min(_CONNECT_SECONDS, max(left, 0.1))
        if self.broker.username is not None:
            client.username_pw_set(self.broker.username, self.broker.password)
        if self._tls_context is not None:
            client.tls_set_context(self._tls_context)
        if self._will is not None:
            client.will_set(*self._will, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _turn(self, client: "Client") -> "MQTTErrorCode":
        """Publish as much as allowed, then handle traffic for up to a second."""
        if self._connected_at is not None:
            while (message := self._outbox.next(self._max_in_flight)) is not None:
                info = client.publish(message.topic, message.payload, 1, message.retain)
                self._outbox.under_way(info.mid, message)
            for topic, payload in self._outbox.take_offers().items():
                client.publish(topic, payload)
        sock = client.socket()
        if sock is None:
            return self._paho.MQTT_ERR_CONN_LOST
        # Data that TLS has already decrypted does not make the socket readable.
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        readable, writable, _ = select.select(
            [sock, self._wakened],
            [sock] if client.want_write() else [],
            [],
            0.0 if pending else _TURN_SECONDS,
        )
        if self._wakened in readable:
            self._wakened.recv(4096)
        result = self._paho.MQTT_ERR_SUCCESS
        if pending or sock in readable:
            result = client.loop_read()
        if result == self._paho.MQTT_ERR_SUCCESS and sock in writable:
            result = client.loop_write()
        return client.loop_misc() if result == self._paho.MQTT_ERR_SUCCESS else result

    def _wake(self) -> None:
        with suppress(OSError):  # The pipe is full, or closed.
            self._waker.send(b"\0")

    def _report_loss(self, lasted: float) -> None:
        """Log the start of an outage."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        self._health.ok, self._health.error = False, f"{self.broker}: {self._ended}"
        self._settled.set()
        if lasted:
            self._short_connections = self._short_connections + 1 if lasted < _STEADY_SECONDS else 0
            if self._short_connections == 3:
                self._logger.warning(
                    "MQTT: connections to %s keep ending: %s. "
                    "If another client also uses the ID %s, give one of them another topic.",
                    self.broker,
                    self._ended,
                    self._client_id,
                )
            if self._short_connections > 1:
                return
        if self._reported and not (self._needs_person and True not in self._reported):
            return
        self._reported.add(self._needs_person)
        self._logger.warning(
            "MQTT: no connection to %s: %s. Retrying; %d of at most %d messages queued.",
            self.broker,
            self._ended,
            self._health.queued,
            self._queue_size,
        )

    def _on_connect(
        self,
        client: "Client",
        userdata: object,
        flags: "ConnectFlags",
        reason: "ReasonCode",
        properties: "Properties | None",
    ) -> None:
        if reason.is_failure:
            self._ended = f"refused: {reason}"
            if reason == "Unsupported protocol version":
                self._protocols.reverse()
            else:
                self._needs_person = True
            return
        if self._reported or not self._ever_connected:
            away = 0.0 if self._lost_at is None else time.monotonic() - self._lost_at
            after = f" after {away:.0f} s" if away else ""
            self._logger.info("MQTT: connected to %s%s.", self.broker, after)
        self._ever_connected = True
        self._lost_at = None
        self._reported.clear()
        self._refused_topics.clear()
        self._max_in_flight = min(
            _MAX_IN_FLIGHT, getattr(properties, "ReceiveMaximum", _MAX_IN_FLIGHT)
        )
        for topic in self._subscriptions:
            client.subscribe(topic, qos=1)
        self._connected_at = time.monotonic()
        self._health.ok, self._health.error = True, ""
        self._settled.set()

    def _on_disconnect(
        self,
        client: "Client",
        userdata: object,
        flags: "DisconnectFlags",
        reason: "ReasonCode",
        properties: "Properties | None",
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._ended = f"the broker closed the connection: {reason}"
        elif not self._ended:
            self._ended = "the connection was lost"
            # Some old brokers just close a version 5 connection.
            if not self._ever_connected:
                self._protocols.reverse()

    def _on_publish(
        self,
        client: "Client",
        userdata: object,
        mid: int,
        reason: "ReasonCode",
        properties: "Properties",
    ) -> None:
        message = self._outbox.acknowledge(mid)
        if message is None:
            return
        if reason.is_failure:
            self._health.dropped += message.queued
            if message.topic not in self._refused_topics:
                self._refused_topics[message.topic] = str(reason)
                self._logger.warning("MQTT: %s refuses %s: %s.", self.broker, message.topic, reason)
        else:
            self._refused_topics.pop(message.topic, None)
        refused = [f"{topic} is refused: {why}" for topic, why in self._refused_topics.items()]
        self._health.ok, self._health.error = not refused, refused[0] if refused else ""

    def _on_message(self, client: "Client", userdata: object, message: "MQTTMessage") -> None:
        handle = self._subscriptions.get(message.topic)
        if handle is not None and message.retain:
            handle(bytes(message.payload))


def check_broker(broker: Broker, client_id: str, seconds: float = 6.0) -> None:
    """Connect once, then disconnect.

    Args:
        broker: the broker to try.
        client_id: unique.
        seconds: longest wait.

    Raises:
        ConnectionError: if connecting fails, with the reason.
        ImportError: if paho-mqtt is not installed.
        ValueError: if the broker's CA file is not readable PEM.
    """
    silent = logging.Logger("check")
    silent.disabled = True
    health = OutputHealth()
    publisher = Publisher(broker, client_id, health=health, logger=silent)
    publisher.wait_until_settled(seconds)
    ok, error = health.ok, health.error
    publisher.close(1.0 if ok else 0.0)
    if not ok:
        raise ConnectionError(error)


def _reason(error: Exception) -> str:
    """Short reason on one line."""
    if isinstance(error, TimeoutError):
        return "no answer"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
