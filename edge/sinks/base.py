"""Base class of the sinks."""

from edge.events.event import Event
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sources.base import Gap
from edge.types import FloatArray


class Sink:
    """An output of the listener; subclasses override the methods they need.

    All calls come from the listener's thread, in stream order, and must return quickly: a sink
    that waits for a network or a slow disk does so in its own thread. The listener logs a sink's
    first exception and counts the others (`edge.listener.Outputs`); an exception stops neither the
    stream nor the other sinks.

    Attributes:
        name: identifies the sink in messages and metrics.
    """

    name = "sink"

    def use_model(self, classifier: StreamingClassifier, model_name: str) -> None:
        """Switch to another model, which has the same sample rate but maybe other labels."""

    def audio(self, chunk: FloatArray) -> None:
        """Take the next samples (samples,), at the model's sample rate."""

    def gap(self, gap: Gap) -> None:
        """Take a gap before the next samples; open events have already ended."""

    def window(self, window: Classification) -> None:
        """Take a window that was classified or gated."""

    def event(self, event: Event) -> None:
        """Take an event that starts (`end_seconds` is None) or ends."""

    def close(self) -> None:
        """Flush pending output within a few seconds; the last call."""
