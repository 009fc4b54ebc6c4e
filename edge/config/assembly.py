"""Factories of the listener's parts; a new source or output is one line here."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from edge.config.settings import DecisionSettings, OutputSettings, Settings, SourceSettings
from edge.events.detector import Detector, Policy
from edge.events.thresholds import read_thresholds
from edge.health import Health
from edge.inference.streaming import StreamingClassifier
from edge.listener import Pipeline
from edge.sinks.base import Sink
from edge.sinks.broker import Broker
from edge.sinks.clips import ClipSink
from edge.sinks.lines import JsonSink, TextSink
from edge.sinks.live import LiveView
from edge.sinks.mqtt import MqttSink
from edge.sources import Source, file_source, pcm_source
from edge.sources.conditioning import ConditionedSource
from edge.sources.interruptible import InterruptiblePipe
from edge.sources.microphone import MicrophoneSource
from edge.sources.url import UrlSource
from edge.web import WebSink, parse_address
from edge.web.address import is_loopback

_LOGGER = logging.getLogger("semanticac_edge")

TOKEN_VARIABLE = "SEMANTICAC_TOKEN"


def make_pipeline(settings: Settings) -> Pipeline:
    """Load the model and make its detector.

    Raises:
        BundleError: if the bundle cannot be used.
        OSError: if the thresholds cannot be read.
        ValueError: if the thresholds do not fit the model.
    """
    model = settings.model.model
    assert model is not None, "`read_settings` refuses settings without a model"
    classifier = StreamingClassifier(
        model, settings.model.hop, settings.model.threads, settings.decisions.gate_dbfs
    )
    window_seconds = classifier.front_end.window_seconds
    if classifier.hop_seconds > window_seconds:
        raise ValueError(
            f"--hop must be at most {window_seconds:g}, the seconds in a window of this model: "
            f"otherwise some sound is in no window. Received: {settings.model.hop:g}."
        )
    policy = make_policy(settings.decisions, classifier.hop_seconds, classifier.labels)
    detector = Detector(policy, classifier.labels, classifier.hop_seconds)
    return Pipeline(classifier, detector, model.name)


def make_policy(
    decisions: DecisionSettings, hop_seconds: float, labels: Sequence[str] | None = None
) -> Policy:
    """Make the detector's policy, with the thresholds of single labels from their file.

    Args:
        decisions: the rules.
        hop_seconds: time between the starts of two windows.
        labels: labels of the model; None accepts thresholds of any label.

    Raises:
        OSError: if the thresholds cannot be read.
        ValueError: if the file does not hold thresholds of these labels.
    """
    path = decisions.thresholds
    return Policy(
        threshold=Policy.threshold if decisions.threshold is None else decisions.threshold,
        thresholds=read_thresholds(path, labels) if path else {},
        smoothing_windows=max(1, round(decisions.smoothing / hop_seconds)),
        release=decisions.release,
        min_seconds=decisions.min_seconds,
        max_seconds=decisions.max_seconds,
        refractory_seconds=decisions.refractory,
        cosine_floor=decisions.cosine_floor,
        report_unknown=decisions.report_unknown,
    )


def make_source(
    settings: SourceSettings, sample_rate_hz: int, health: Health, should_stop: Callable[[], bool]
) -> Source:
    """Open the source; a live one connects only when iteration starts.

    Args:
        settings: options of the source.
        sample_rate_hz: sample rate of its chunks.
        health: where live sources report their state.
        should_stop: polled by a source that may block for long; True ends it.

    Raises:
        ImportError: if a package that the source needs is not installed.
        SourceError: if there is no such source.
    """
    source = _unconditioned(settings, sample_rate_hz, health, should_stop)
    return ConditionedSource(source, sample_rate_hz, settings.high_pass, settings.gain)


def _unconditioned(
    settings: SourceSettings, sample_rate_hz: int, health: Health, should_stop: Callable[[], bool]
) -> Source:
    channel = settings.channel
    if settings.url is not None:
        return UrlSource(settings.url, sample_rate_hz, health, channel=channel)
    if settings.mic or settings.device is not None:
        return MicrophoneSource(sample_rate_hz, settings.device, health, channel=channel)
    if settings.file is not None:
        health.set_source(True, f"file {settings.file}")
        return file_source(settings.file, sample_rate_hz, channel)
    assert settings.rate is not None, "--stdin without --rate is refused"
    health.set_source(True, "standard input")
    return pcm_source(
        cast(BinaryIO, InterruptiblePipe(sys.stdin.buffer, should_stop)),
        sample_rate_hz,
        settings.rate,
        settings.channels or 1,
        settings.format or "s16le",
        channel,
    )


def make_sinks(
    settings: Settings,
    pipeline: Pipeline,
    health: Health,
    environment: Mapping[str, str] = os.environ,
) -> list[Sink]:
    """Open all outputs.

    Args:
        settings: options of the listener.
        pipeline: the pipeline before any reload.
        health: where all outputs report their state; some also show it.
        environment: environment variables that may hold secrets.

    Raises:
        ImportError: if a package is not installed.
        OSError: if a port or a file cannot be opened.
        ValueError: if a topic, a token or a similar value is not valid.
    """
    outputs = settings.outputs
    sinks: list[Sink] = []
    page: WebSink | None = None
    if outputs.serve is not None:
        page = _page(outputs, outputs.serve, pipeline, health, environment)
        sinks.append(page)
        _LOGGER.info("The page is at %s.", page.url)
    if outputs.clips is not None:
        sinks.append(_clips(outputs, outputs.clips, settings, pipeline, health))
    if outputs.mqtt is not None:
        reports_unknown = settings.decisions.report_unknown
        sinks.append(
            _mqtt(outputs, outputs.mqtt, reports_unknown, pipeline, health, page, environment)
        )
    view = outputs.live
    lines = outputs.text or outputs.json or (outputs.events_only and not view)
    if not (sinks or lines or view):
        view = settings.source.live and sys.stdout.isatty()
        lines = not view
    if view:
        sinks.append(_view(pipeline, health, with_lines=lines))
    if lines:
        sinks.append(_lines(outputs))
    return sinks


def page_token(outputs: OutputSettings, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the page's token from its file, option or environment variable.

    Raises:
        OSError: if the file cannot be read.
    """
    if outputs.token_file is not None:
        return outputs.token_file.read_text(encoding="utf-8").strip()
    return outputs.token or environment.get(TOKEN_VARIABLE) or None


def make_broker(
    outputs: OutputSettings, url: str, environment: Mapping[str, str] = os.environ
) -> Broker:
    """Return the broker with its password from the file, URL or environment variable.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if the URL is not valid.
    """
    return Broker.from_url(url, outputs.mqtt_ca, outputs.mqtt_password_file, environment)


def _lines(outputs: OutputSettings) -> Sink:
    kind = JsonSink if outputs.json else TextSink
    return kind(sys.stdout, outputs.top, not outputs.events_only)


def _view(pipeline: Pipeline, health: Health, with_lines: bool) -> LiveView:
    if with_lines and sys.stdout.isatty():
        raise ValueError("--live needs the terminal: redirect the lines to a file with > FILE")
    stream = sys.stderr if with_lines else sys.stdout
    return LiveView(health, f"semanticac-edge: {pipeline.model_name}", stream)


def _page(
    outputs: OutputSettings,
    address: str,
    pipeline: Pipeline,
    health: Health,
    environment: Mapping[str, str],
) -> WebSink:
    host, port = parse_address(address)
    proxy = urlsplit(outputs.page_url or "").hostname
    return WebSink(
        pipeline.classifier,
        pipeline.model_name,
        health,
        host,
        port,
        token=page_token(outputs, environment),
        names=[proxy] if proxy else [],
        clips_dir=outputs.clips,
    )


def _clips(
    outputs: OutputSettings, directory: Path, settings: Settings, pipeline: Pipeline, health: Health
) -> ClipSink:
    rate_hz, window_seconds = (
        pipeline.classifier.front_end.sample_rate_hz,
        pipeline.classifier.front_end.window_seconds,
    )
    decisions = settings.decisions
    late_seconds = window_seconds + decisions.smoothing + pipeline.classifier.hop_seconds
    return ClipSink(
        directory,
        rate_hz,
        outputs.clips_quota_mb,
        # A reload may bring a model with a longer window.
        late_seconds=max(30.0, late_seconds + decisions.min_seconds),
        health=health,
    )


def _mqtt(
    outputs: OutputSettings,
    url: str,
    reports_unknown: bool,
    pipeline: Pipeline,
    health: Health,
    page: WebSink | None,
    environment: Mapping[str, str],
) -> MqttSink:
    page_url, clips_url = outputs.page_url, None
    if (
        page_url is None
        and page
        and outputs.serve
        and not is_loopback(parse_address(outputs.serve)[0])
    ):
        page_url = page.url
    if page_url is not None and outputs.clips is not None:
        clips_url = f"{page_url.rstrip('/')}/clips"
    return MqttSink(
        make_broker(outputs, url, environment),
        pipeline.classifier.labels,
        outputs.mqtt_topic,
        discovery="homeassistant" if outputs.mqtt_discovery else None,
        page_url=page_url,
        clips_url=clips_url,
        health=health,
        exclusive=pipeline.classifier.contract.exclusive,
        reports_unknown=reports_unknown,
    )
