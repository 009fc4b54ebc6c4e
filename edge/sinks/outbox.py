"""Messages waiting for an unreliable connection."""

import threading
from collections import deque
from dataclasses import dataclass

from edge.health import OutputHealth


@dataclass(frozen=True, eq=False)
class Message:
    """A message to publish with acknowledgement: `queued` by `send`, or a kept value."""

    topic: str
    payload: str
    retain: bool
    queued: bool


class Outbox:
    """Queued messages, retained values (only the latest counts), and offers to send now or never.

    Producers call `send`, `keep` and `offer` from any thread. The publisher takes messages with
    `next` and `take_offers`, and reports `under_way`, `acknowledge` or, after a lost connection,
    `give_back`.

    Args:
        size: longest queue of `send`; the oldest messages are dropped.
        health: counts queued and dropped messages.
    """

    def __init__(self, size: int, health: OutputHealth) -> None:
        self._size = size
        self._health = health
        self._lock = threading.Lock()
        self._queue: deque[Message] = deque()
        self._kept: dict[str, str] = {}
        self._unsent: dict[str, None] = {}
        self._offers: dict[str, str] = {}
        self._in_flight: dict[int, Message] = {}

    def send(self, topic: str, payload: str, retain: bool) -> None:
        """Queue a message to deliver at least once."""
        with self._lock:
            self._queue.append(Message(topic, payload, retain, queued=True))
            self._trim()

    def keep(self, topic: str, payload: str) -> bool:
        """Set a topic's retained value; return whether it changed."""
        with self._lock:
            if self._kept.get(topic) == payload:
                return False
            self._kept[topic] = payload
            self._unsent[topic] = None
            return True

    def offer(self, topic: str, payload: str) -> None:
        """Add a message to drop unless it is sent soon."""
        with self._lock:
            self._offers[topic] = payload

    def next(self, max_in_flight: int) -> Message | None:
        """Next message, values first; None if `max_in_flight` are under way or none is left."""
        with self._lock:
            if len(self._in_flight) >= max_in_flight:
                return None
            if self._unsent:
                topic = next(iter(self._unsent))
                del self._unsent[topic]
                return Message(topic, self._kept[topic], retain=True, queued=False)
            return self._queue.popleft() if self._queue else None

    def under_way(self, number: int, message: Message) -> None:
        """Record a published message under the number that will acknowledge it."""
        with self._lock:
            self._in_flight[number] = message

    def take_offers(self) -> dict[str, str]:
        """Remove and return the offers, by topic."""
        with self._lock:
            offers, self._offers = self._offers, {}
            return offers

    def acknowledge(self, number: int) -> Message | None:
        """Remove and return the message published under this number, if any."""
        with self._lock:
            message = self._in_flight.pop(number, None)
            self._count()
            if message and not message.queued and not message.payload:
                topic = message.topic
                if self._kept.get(topic) == "" and topic not in self._unsent:
                    del self._kept[topic]  # The broker has cleared the topic.
            return message

    def give_back(self) -> None:
        """After a lost connection, queue unacknowledged messages and all values again."""
        with self._lock:
            self._offers.clear()
            lost = [message for message in self._in_flight.values() if message.queued]
            self._queue.extendleft(reversed(lost))
            self._in_flight.clear()
            # The broker may have lost its retained values.
            self._unsent = dict.fromkeys(self._kept)
            self._trim()

    @property
    def empty(self) -> bool:
        """Whether everything except offers is acknowledged."""
        with self._lock:
            return not (self._queue or self._unsent or self._in_flight)

    def _trim(self) -> None:
        while len(self._queue) > self._size:
            self._queue.popleft()
            self._health.dropped += 1
        self._count()

    def _count(self) -> None:
        in_flight = sum(message.queued for message in self._in_flight.values())
        self._health.queued = len(self._queue) + in_flight
