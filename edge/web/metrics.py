"""Health as Prometheus reads it."""

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
    """Reads health anew for each scrape; nothing is counted twice, and none of it is global.

    Memory, processor time and open files come as the usual `process_` metrics.

    Args:
        health: what is told.
        feed: the pages that are open.
    """

    def __init__(self, health: Health, feed: Feed) -> None:
        self._health = health
        self._feed = feed
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type, in the format that an `Accept` header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """All metrics now."""
        values = self._health.to_json()
        counters = {
            "windows": "Windows that came out, gated ones included.",
            "gated_windows": "Windows too quiet to be classified.",
            "gaps": "Breaks in the sound.",
            "gap_seconds": "Length of all breaks.",
            "reconnects": "Times the source came back.",
        }
        for name, text in counters.items():
            yield CounterMetricFamily(f"semanticac_{name}", text, value=values[name])
        yield SummaryMetricFamily(
            "semanticac_inference_seconds",
            "Time spent on a window that was classified.",
            count_value=values["windows"] - values["gated_windows"],
            sum_value=values["inference_seconds"],
        )
        events = CounterMetricFamily("semanticac_events", "Events that started.", labels=["label"])
        for label, count in values["events"].items():
            events.add_metric([label], count)
        yield events

        gauges = {
            "open_events": ("Events that last.", values["open_events"]),
            "ready": ("Sound comes in and is classified.", values["ready"]),
            "source_up": ("Sound comes in.", values["source_up"]),
            "uptime_seconds": ("Time since the start.", values["uptime_seconds"]),
            "web_clients": ("Pages that are open.", self._feed.clients),
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
            "What runs.",
            value={
                "version": installed_version() or "unknown",
                "python": platform.python_version(),
            },
        )


def _outputs(outputs: dict[str, dict[str, float]]) -> Iterator[Metric]:
    up = GaugeMetricFamily("semanticac_output_up", "The output works.", labels=["output"])
    queued = GaugeMetricFamily(
        "semanticac_output_queued", "Items that wait for an output.", labels=["output"]
    )
    failures = CounterMetricFamily(
        "semanticac_output_failures", "Calls of an output that raised.", labels=["output"]
    )
    dropped = CounterMetricFamily(
        "semanticac_output_dropped", "Items that an output gave up.", labels=["output"]
    )
    for name, output in outputs.items():
        up.add_metric([name], output["ok"])
        queued.add_metric([name], output["queued"])
        failures.add_metric([name], output["failures"])
        dropped.add_metric([name], output["dropped"])
    yield from (up, queued, failures, dropped)
