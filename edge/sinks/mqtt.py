"""Events over MQTT, with discovery for Home Assistant."""

import hashlib
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edge.events.event import UNKNOWN, Event
from edge.health import Health, OutputHealth
from edge.inference.streaming import Classification, StreamingClassifier
from edge.release import installed_version
from edge.sinks.base import Sink
from edge.sinks.broker import Broker
from edge.sinks.home_assistant import Config, device_config, stale_components, without
from edge.sinks.publisher import Publisher
from edge.sinks.slugs import slug, slugs
from edge.types import FloatArray

_TOP = 5
_MACHINE_ID = Path("/etc/machine-id")


class MqttSink(Sink):
    """Publishes events under a base topic, and a discovery message for Home Assistant.

    | topic | payload | |
    | --- | --- | --- |
    | `<topic>/status` | `online`; `offline` after the listener ends or dies | retained |
    | `<topic>/event` | an event, at its start and at its end | |
    | `<topic>/last_event` | the latest of these messages | retained |
    | `<topic>/state/<label>` | `ON` while an event of the label is open, else `OFF` | retained |
    | `<topic>/source` | `ON` while the audio source works, else `OFF` | retained |
    | `<topic>/hears` | `level_dbfs`, and `top`: the 5 best labels; periodic | QoS 0 |
    | `<discovery>/device/<id>/config` | device discovery for Home Assistant | retained |

    An event message is `Event.to_json()` plus `event_type`, the label, and `clip_url`, null without
    clips. It is delivered at least once (QoS 1); the newest events are queued while the broker is
    unreachable. If an acknowledgement is lost, the message is sent again with the same `id`. Labels
    in topics are lower-case ASCII: `Dog (bark)` becomes `dog_bark`.

    If labels disappear, after a reload or since the last start, their entities are removed from
    Home Assistant and their states from the broker.

    Args:
        broker: the broker to publish to.
        labels: labels of the model.
        topic: base topic; default: `semanticac/<host name>`.
        device_name: name in Home Assistant; default: `Sound listener <host name>`.
        discovery: Home Assistant's discovery prefix; None disables discovery.
        page_url: URL of the listener's page, linked from Home Assistant.
        clips_url: base URL of the clips.
        update_seconds: time between two messages on `<topic>/hears`.
        queue_size: events to queue while the broker is unreachable.
        backoff_seconds: first and longest wait between two connection attempts.
        health: counts queued and dropped messages, and holds the last error.
        exclusive: whether the model's scores exclude each other; see `BundleContract`.
        reports_unknown: whether to announce the label `unknown` too.

    Raises:
        ImportError: if paho-mqtt is not installed.
        ValueError: if the topic is invalid, or the broker's CA file is not readable PEM.
    """

    name = "mqtt"

    def __init__(
        self,
        broker: Broker,
        labels: Sequence[str],
        topic: str | None = None,
        device_name: str | None = None,
        discovery: str | None = "homeassistant",
        page_url: str | None = None,
        clips_url: str | None = None,
        update_seconds: float = 10.0,
        queue_size: int = 1000,
        backoff_seconds: tuple[float, float] = (1.0, 30.0),
        health: Health | None = None,
        exclusive: bool = True,
        reports_unknown: bool = False,
    ) -> None:
        host = socket.gethostname()
        self.topic = default_topic() if topic is None else topic
        for text in (self.topic, "homeassistant" if discovery is None else discovery):
            check_topic(text)
        self.device_id = device_id(self.topic)
        self._device_name = device_name or f"Sound listener {host}"
        self._page_url = page_url
        self._clips_url = clips_url
        self._update_seconds = update_seconds
        self._health = health
        self._next_update = 0.0
        self._open: dict[str, set[str]] = {}
        # The configuration changes in two threads: with new labels, and with the payload that the
        # broker retained.
        self._lock = threading.Lock()
        self._labels: tuple[str, ...] = ()
        self._exclusive = exclusive
        self._reports_unknown = reports_unknown
        self._slugs: dict[str, str] = {}
        self._config: Config = {"components": {}}
        self._config_topic = None
        subscriptions = {}
        if discovery is not None:
            self._config_topic = f"{discovery}/device/{self.device_id}/config"
            subscriptions[self._config_topic] = self._take_retained_config
        self._publisher = Publisher(
            broker,
            client_id=self.device_id,
            will=(f"{self.topic}/status", "offline"),
            subscriptions=subscriptions,
            queue_size=queue_size,
            health=OutputHealth() if health is None else health.output(self.name),
            backoff_seconds=backoff_seconds,
        )
        self._set_model(tuple(labels), exclusive)
        self._publisher.keep(f"{self.topic}/status", "online")

    def use_model(self, classifier: StreamingClassifier, model_name: str) -> None:
        """Publish the new model's labels, and remove missing ones."""
        labels, exclusive = classifier.labels, classifier.contract.exclusive
        if (labels, exclusive) != (self._labels, self._exclusive):
            self._set_model(labels, exclusive)

    def audio(self, chunk: FloatArray) -> None:
        """Publish whether the source works, and whether it seems muted."""
        if self._health is not None:
            for name, on in (("source", self._health.source_up), ("muted", self._health.muted)):
                self._publisher.keep(f"{self.topic}/{name}", "ON" if on else "OFF")

    def window(self, window: Classification) -> None:
        """Publish level and best labels every `update_seconds`."""
        now = time.monotonic()
        if now < self._next_update:
            return
        self._next_update = now + self._update_seconds
        best = [] if window.gated else window.top(_TOP)
        hears = {
            "level_dbfs": round(window.level_dbfs, 1),
            "top": [{"label": label, "score": round(score, 3)} for label, score in best],
        }
        self._publisher.offer(f"{self.topic}/hears", _dumps(hears))

    def event(self, event: Event) -> None:
        """Publish an event's start or end."""
        ids = self._open.setdefault(event.label, set())
        if event.end_seconds is None:
            ids.add(event.id)
        else:
            ids.discard(event.id)
        if (name := self._slugs.get(event.label)) is not None:
            self._publisher.keep(f"{self.topic}/state/{name}", "ON" if ids else "OFF")
        link = None
        if self._clips_url is not None and event.clip is not None:
            link = f"{self._clips_url.rstrip('/')}/{quote(event.clip)}"
        payload = _dumps(event.to_json() | {"event_type": event.label, "clip_url": link})
        self._publisher.keep(f"{self.topic}/last_event", payload)
        self._publisher.send(f"{self.topic}/event", payload)

    def close(self) -> None:
        """Publish pending messages and `offline`, for at most three seconds."""
        self._publisher.keep(f"{self.topic}/status", "offline")
        self._publisher.close()

    def _set_model(self, labels: tuple[str, ...], exclusive: bool) -> None:
        with self._lock:
            self._labels, self._exclusive = labels, exclusive
            self._slugs = slugs(dict.fromkeys((*labels, UNKNOWN)))
            old = self._config
            self._config = device_config(
                self.device_id,
                self._device_name,
                self.topic,
                {
                    label: name
                    for label, name in self._slugs.items()
                    if label != UNKNOWN or self._reports_unknown
                },
                installed_version() or "0",
                self._page_url,
                expire_seconds=max(60.0, 6 * self._update_seconds),
                exclusive=exclusive,
            )
            if self._config_topic is not None:
                self._publisher.keep(self._config_topic, _dumps(self._config))
            self._remove(stale_components(old, self._config))
        for label, name in self._slugs.items():
            on = bool(self._open.get(label))
            self._publisher.keep(f"{self.topic}/state/{name}", "ON" if on else "OFF")

    def _take_retained_config(self, payload: bytes) -> None:
        """Remove labels that an earlier run published for another model."""
        try:
            old = json.loads(payload)
        except ValueError:
            return
        with self._lock:
            self._remove(stale_components(old, self._config))

    def _remove(self, stale: dict[str, Config]) -> None:
        """Remove components. The caller holds the lock."""
        if not stale:
            return
        if self._config_topic is not None:
            removal = _dumps(without(self._config, stale))
            self._publisher.send(self._config_topic, removal, retain=True)
            self._publisher.send(self._config_topic, _dumps(self._config), retain=True)
        for component in stale.values():
            # Anyone may have written the retained payload, so clear only our own topics.
            state_topic = str(component.get("state_topic"))
            if re.fullmatch(re.escape(f"{self.topic}/state/") + "[a-z0-9_]+", state_topic):
                self._publisher.keep(state_topic, "")


def device_id(topic: str) -> str:
    """Stable identifier of this machine and base topic."""
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        machine = ""
    # The machine id is confidential, so only a hash is published.
    seed = f"{machine or uuid.getnode()} {topic}"
    return f"semanticac_{hashlib.sha256(seed.encode()).hexdigest()[:12]}"


def default_topic() -> str:
    """Default base topic: `semanticac/<host name>`."""
    return f"semanticac/{slug(socket.gethostname())}"


def check_topic(topic: str) -> None:
    """Check a base topic.

    Raises:
        ValueError: if it is invalid.
    """
    if not re.fullmatch(r"[^$+#/\0][^+#\0]*(?<!/)", topic) or len(topic.encode()) > 1000:
        raise ValueError(
            "an MQTT topic must be levels separated by /, without + and #, not starting with $ "
            f"or /. Received: {topic!r}."
        )


def _dumps(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False)
