"""What every sink takes: sound, windows, gaps and events."""

from edge.events.event import Event
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sources.base import Gap
from edge.types import FloatArray


class Sink:
    """Takes what the listener hears; a kind of sink overrides what it needs.

    All calls come from the listener's thread, in the order of the stream, and must return soon:
    whatever waits for a network or a slow disk does so in a thread of its own. An exception is
    reported once and counted by the listener (`edge.listener.Outputs`); it stops neither the
    stream nor the other sinks.

    Attributes:
        name: for messages and metrics.
    """

    name = "sink"

    def use_model(self, classifier: StreamingClassifier, model_name: str) -> None:
        """From now on another model listens; its rate is the same, its labels may differ."""

    def audio(self, chunk: FloatArray) -> None:
        """The next samples (samples,), at the model's rate."""

    def gap(self, gap: Gap) -> None:
        """Sound is missing before the next samples; open events have ended already."""

    def window(self, window: Classification) -> None:
        """A window was classified, or was too quiet to be."""

    def event(self, event: Event) -> None:
        """An event starts (`end_seconds` is None), or ends."""

    def close(self) -> None:
        """Hand on what is left, within a few seconds; nothing comes after this."""
