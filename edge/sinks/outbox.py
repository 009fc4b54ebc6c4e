"""What is still to be said over a connection that comes and goes."""

import threading
from collections import deque
from dataclasses import dataclass

from edge.health import OutputHealth


@dataclass(frozen=True, eq=False)
class Message:
    """Something to publish with an acknowledgement; `queued` by `send`, else a kept value."""

    topic: str
    payload: str
    retain: bool
    queued: bool


class Outbox:
    """Messages in order, values of which only the last counts, and offers for right now.

    Producers call `send`, `keep` and `offer`, from any thread. The one who publishes takes with
    `next` and `take_offers`, and reports with `acknowledge` or, after a loss, `give_back`.

    Args:
        size: messages of `send` that wait at most; the oldest make room.
        health: where to count those that wait and those that are dropped.
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
        """Add a message that must arrive."""
        with self._lock:
            self._queue.append(Message(topic, payload, retain, queued=True))
            self._trim()

    def keep(self, topic: str, payload: str) -> bool:
        """Change a topic's retained value; say whether it was another."""
        with self._lock:
            if self._kept.get(topic) == payload:
                return False
            self._kept[topic] = payload
            self._unsent[topic] = None
            return True

    def offer(self, topic: str, payload: str) -> None:
        """Add something that is worth saying only if it is taken soon."""
        with self._lock:
            self._offers[topic] = payload

    def next(self, max_in_flight: int) -> Message | None:
        """The next to publish, values before messages; None if enough are under way."""
        with self._lock:
            if len(self._in_flight) >= max_in_flight:
                return None
            if self._unsent:
                topic = next(iter(self._unsent))
                del self._unsent[topic]
                return Message(topic, self._kept[topic], retain=True, queued=False)
            return self._queue.popleft() if self._queue else None

    def under_way(self, number: int, message: Message) -> None:
        """It is published, and will be acknowledged by this number."""
        with self._lock:
            self._in_flight[number] = message

    def take_offers(self) -> dict[str, str]:
        """The offers by topic; they are gone then."""
        with self._lock:
            offers, self._offers = self._offers, {}
            return offers

    def acknowledge(self, number: int) -> Message | None:
        """Forget what was published under this number; return it, if it was one of these."""
        with self._lock:
            message = self._in_flight.pop(number, None)
            self._count()
            if message and not message.queued and not message.payload:
                topic = message.topic
                if self._kept.get(topic) == "" and topic not in self._unsent:
                    del self._kept[topic]  # Cleared at the broker, so nothing is left to keep.
            return message

    def give_back(self) -> None:
        """The connection is lost: messages without an acknowledgement, and all values, are due."""
        with self._lock:
            self._offers.clear()
            lost = [message for message in self._in_flight.values() if message.queued]
            self._queue.extendleft(reversed(lost))
            self._in_flight.clear()
            # The broker may have lost what it retained.
            self._unsent = dict.fromkeys(self._kept)
            self._trim()

    @property
    def empty(self) -> bool:
        """Everything but offers is said and acknowledged."""
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
