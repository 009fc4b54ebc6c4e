"""Health metrics in Prometheus format."""

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from edge.health import Health
from edge.release import installed_version
from edge.web.feed import Feed


class Metrics(Collector):
    """Collects metrics from the health state at each scrape, in a registry of its own.

    The standard `process_` metrics report memory, CPU time and open files.

    Args:
        health: source of the metrics.
        feed: counts the open pages.
    """

    def __init__(self, health: Health, feed: Feed) -> None:
        self._health = health
        self._feed = feed
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Encode the metrics for an `Accept` header; return text and content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        values = self._health.to_json()
        counters = {
            "windows": "Windows processed, including gated ones.",
            "gated_windows": "Windows too quiet to be classified.",
            "gaps": "Gaps in the audio.",
            "gap_seconds": "Total length of all gaps.",
            "reconnects": "Reconnections of the source.",
        }
        for name, text in counters.items():
            yield CounterMetricFamily(f"semanticac_{name}", text, value=values[name])
        yield SummaryMetricFamily(
            "semanticac_inference_seconds",
            "Inference time of a classified window.",
            count_value=values["windows"] - values["gated_windows"],
            sum_value=values["inference_seconds"],
        )
        events = CounterMetricFamily("semanticac_events", "Events that started.", labels=["label"])
        for label, count in values["events"].items():
            events.add_metric([label], count)
        yield events

        gauges = {
            "open_events": ("Open events.", values["open_events"]),
            "ready": ("Whether audio arrives and is classified.", values["ready"]),
            "source_up": ("Whether audio arrives.", values["source_up"]),
            "muted": ("Whether audio has been digital silence for a minute.", values["muted"]),
            "uptime_seconds": ("Time since the start.", values["uptime_seconds"]),
            "web_clients": ("Open pages.", self._feed.clients),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"semanticac_{name}", text, value=float(value))
        age = GaugeMetricFamily("semanticac_window_age_seconds", "Time since the last window.")
        if values["window_age_seconds"] is not None:
            age.add_metric([], values["window_age_seconds"])
        yield age
        yield from _outputs(values["outputs"])
        yield InfoMetricFamily(
            "semanticac_build",
            "Version information.",
            value={
                "version": installed_version() or "unknown",
                "python": platform.python_version(),
            },
        )


def _outputs(outputs: dict[str, dict[str, float]]) -> Iterator[Metric]:
    up = GaugeMetricFamily("semanticac_output_up", "Whether the output works.", labels=["output"])
    queued = GaugeMetricFamily(
        "semanticac_output_queued", "Items queued for an output.", labels=["output"]
    )
    failures = CounterMetricFamily(
        "semanticac_output_failures",
        "Failed calls of an output.",
        labels=["output"],
    )
    dropped = CounterMetricFamily(
        "semanticac_output_dropped", "Items dropped by an output.", labels=["output"]
    )
    for name, output in outputs.items():
        up.add_metric([name], output["ok"])
        queued.add_metric([name], output["queued"])
        failures.add_metric([name], output["failures"])
        dropped.add_metric([name], output["dropped"])
    yield from (up, queued, failures, dropped)
