"""Metrics for Prometheus."""

from contextlib import closing
from types import SimpleNamespace

import pytest

from edge import FrontEnd
from edge.events.event import Event
from edge.health import Health
from edge.web import WebSink
from tests.edge.visitor import Listener, ask

pytest.importorskip("uvicorn")
prometheus = pytest.importorskip("prometheus_client.parser")

CLASSIFIER = SimpleNamespace(labels=("rain",), front_end=FrontEnd(), hop_seconds=1.0)
ODD_LABEL = 'dog "Rex"\n\\ ♪'


@pytest.fixture
def health():
    """Health with a value for every metric."""
    health = Health()
    health.set_source(True, "USB microphone")
    health.count_window(0.25)
    health.count_window(0.5)
    health.count_window(gated=True)
    health.count_gap(1.5)
    health.count_reconnect()
    for number, label in enumerate(("rain", "rain", ODD_LABEL)):
        health.count_event(Event(str(number), label, 0.0, None, 0.9, 0.9, -20.0))
    health.count_event(Event("0", "rain", 0.0, 2.0, 0.9, 0.9, -20.0))
    broker = health.output("mqtt")
    broker.ok, broker.queued, broker.dropped, broker.failures = False, 7, 3, 2
    return health


@pytest.fixture
def web(health):
    """A server with that health."""
    with closing(WebSink(CLASSIFIER, "m", health, port=0)) as sink:
        yield sink


def samples(text, parse=prometheus.text_string_to_metric_families):
    """Sample values by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_metrics_equal_the_counts(web):
    answer = ask(web.port, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    values = samples(answer.body.decode())
    assert values[("semanticac_windows_total",)] == 3
    assert values[("semanticac_gated_windows_total",)] == 1
    assert values[("semanticac_inference_seconds_count",)] == 2
    assert values[("semanticac_inference_seconds_sum",)] == 0.75
    assert values[("semanticac_gaps_total",)] == 1
    assert values[("semanticac_gap_seconds_total",)] == 1.5
    assert values[("semanticac_reconnects_total",)] == 1
    assert values[("semanticac_events_total", ("label", "rain"))] == 2
    assert values[("semanticac_events_total", ("label", ODD_LABEL))] == 1
    assert values[("semanticac_open_events",)] == 2
    assert values[("semanticac_ready",)] == 1
    assert values[("semanticac_source_up",)] == 1
    assert values[("semanticac_muted",)] == 0
    assert 0 <= values[("semanticac_window_age_seconds",)] < 10
    mqtt = ("output", "mqtt")
    assert values[("semanticac_output_up", mqtt)] == 0
    assert values[("semanticac_output_up", ("output", "web"))] == 1
    assert values[("semanticac_output_queued", mqtt)] == 7
    assert values[("semanticac_output_dropped_total", mqtt)] == 3
    assert values[("semanticac_output_failures_total", mqtt)] == 2
    (build,) = [labels for labels in values if labels[0] == "semanticac_build_info"]
    assert {name for name, _ in build[1:]} == {"python", "version"}


@pytest.mark.skipif("not __import__('os').path.exists('/proc/self/stat')", reason="reads /proc")
def test_process_metrics_are_current(web, health):
    values = samples(ask(web.port, "/metrics").body.decode())
    assert values[("process_resident_memory_bytes",)] == pytest.approx(health.rss_bytes(), rel=0.1)
    assert values[("process_open_fds",)] > 3


def test_pages_are_counted_while_they_are_open(web):
    with Listener(web.port) as page:
        page.next("hello")
        values = samples(ask(web.port, "/metrics").body.decode())
    assert values[("semanticac_web_clients",)] == 1


def test_openmetrics_format_on_request(web):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    answer = ask(web.port, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    values = samples(answer.body.decode(), text_string_to_metric_families)
    assert values[("semanticac_windows_total",)] == 3


def test_there_is_no_window_age_before_the_first_window():
    with closing(WebSink(CLASSIFIER, "m", Health(), port=0)) as sink:
        values = samples(ask(sink.port, "/metrics").body.decode())
    assert ("semanticac_window_age_seconds",) not in values
    assert values[("semanticac_ready",)] == 0


def test_two_listeners_in_a_process_have_separate_metrics(web):
    with closing(WebSink(CLASSIFIER, "m", Health(), port=0)) as other:
        assert (
            samples(ask(other.port, "/metrics").body.decode())[("semanticac_windows_total",)] == 0
        )
    assert samples(ask(web.port, "/metrics").body.decode())[("semanticac_windows_total",)] == 3
