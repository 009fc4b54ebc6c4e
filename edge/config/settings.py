"""Options of the listener, the single source of its flags and its configuration file."""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from edge.config.options import Limits, SettingsError, flag, option
from edge.config.sections import add_flags, read_options
from edge.events.detector import Policy
from edge.inference.packaged import packaged_model
from edge.sinks.broker import Broker
from edge.sinks.mqtt import check_topic
from edge.sources.conditioning import HIGH_PASS_HZ, gain_decibels
from edge.sources.downmix import MIX, channel_number
from edge.web import parse_address

_SOURCES = ("mic", "device", "file", "stdin", "url")


@dataclass(frozen=True)
class SourceSettings:
    """Audio source: exactly one of --mic, --device, --file, --stdin and --url.

    Raises:
        SettingsError: if there is no source or more than one, or an option does not apply to it.
    """

    mic: bool = option(False, "capture from the default microphone", overrides_section=True)
    device: str | None = option(
        None,
        "capture from this microphone: its index, or part of its name",
        "NAME|INDEX",
        overrides_section=True,
    )
    file: Path | None = option(
        None, "read an audio file: WAV, FLAC, OGG, MP3, ...", "PATH", overrides_section=True
    )
    stdin: bool = option(False, "read raw samples from standard input", overrides_section=True)
    url: str | None = option(
        None,
        "read a network stream through ffmpeg: RTSP, HTTP, ...",
        "URL",
        secret=True,
        overrides_section=True,
    )
    rate: int | None = option(None, "sample rate of --stdin", "HZ", Limits(1_000, at_most=10**6))
    channels: int | None = option(
        None, "channels of --stdin; default: 1", "N", Limits(1, at_most=256)
    )
    format: Literal["s16le", "f32le"] | None = option(
        None, "sample format of --stdin; default: s16le"
    )
    channel: str = option(
        MIX, "channel to listen to: mix, the mean of all, left, right, or a number from 1", "NAME|N"
    )
    high_pass: float = option(
        HIGH_PASS_HZ,
        "filter out lower frequencies, such as a constant offset or wind; 0 turns it off",
        "HZ",
        Limits(0, at_most=1_000),
    )
    gain: str = option(
        "0", "amplify the sound; auto raises the gain slowly where it is quiet", "DB|auto"
    )

    def __post_init__(self) -> None:
        given = [name for name in _SOURCES if getattr(self, name) not in (None, False)]
        if not given:
            raise SettingsError(f"give a source: one of {', '.join(map(flag, _SOURCES))}")
        if len(given) > 1:
            raise SettingsError(f"give one source, not {' and '.join(map(flag, given))}")
        if self.stdin and self.rate is None:
            raise SettingsError("--stdin needs --rate")
        for name in ("rate", "channels", "format"):
            if not self.stdin and getattr(self, name) is not None:
                raise SettingsError(f"--{name} goes with --stdin; other sources have their own")
        try:
            channel_number(self.channel)
            gain_decibels(self.gain)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    @property
    def live(self) -> bool:
        """Whether sound that is not captured is lost, unlike in a file."""
        return self.file is None


@dataclass(frozen=True)
class ModelSettings:
    """The model and the windows that it classifies."""

    model: Path | None = option(
        None,
        "the .tflite bundle; default: $SEMANTICAC_MODEL, or the packaged model with its own "
        "decision settings",
        "PATH",
        environment="SEMANTICAC_MODEL",
    )
    hop: float = option(
        1.0, "time between the starts of two windows", "SECONDS", Limits(above=0, at_most=1e6)
    )
    threads: int = option(1, "CPU threads for the model", "N", Limits(1, at_most=256))


@dataclass(frozen=True)
class DecisionSettings:
    """Rules that turn scores into events.

    Raises:
        SettingsError: if options conflict.
    """

    threshold: float | None = option(
        None,
        "smoothed score at which an event of a label starts; default: "
        f"{Policy.threshold:g}, or the packaged model's",
        "SCORE",
        Limits(above=0, at_most=1),
    )
    thresholds: Path | None = option(
        None, "thresholds of single labels, written by `semanticac-edge tune`", "FILE"
    )
    smoothing: float = option(
        3.0,
        "time of the moving average of scores; 0 turns it off",
        "SECONDS",
        Limits(0, at_most=1000),
    )
    release: float = option(
        Policy.release,
        "share of the threshold; an event ends when its score falls below it",
        "SHARE",
        Limits(above=0, at_most=1),
    )
    min_seconds: float = option(
        Policy.min_seconds, "ignore shorter events", "SECONDS", Limits(0, below=math.inf)
    )
    max_seconds: float = option(
        Policy.max_seconds,
        "end events that last longer",
        "SECONDS",
        Limits(above=0, below=math.inf),
    )
    refractory: float = option(
        Policy.refractory_seconds,
        "time after an event before the next one of its label can start",
        "SECONDS",
        Limits(0, below=math.inf),
    )
    cosine_floor: float | None = option(
        None, "lowest cosine similarity of a label that counts", "COSINE", Limits(-1, at_most=1)
    )
    report_unknown: bool = option(
        False, "report sounds below the cosine floor as events of the label unknown"
    )
    # Muted inputs and silent recordings are below it; even a quiet room is louder.
    gate_dbfs: float = option(
        -70.0, "do not classify quieter windows; -120 turns it off", "DBFS", Limits(-120, below=0)
    )

    def __post_init__(self) -> None:
        if self.report_unknown and self.cosine_floor is None:
            raise SettingsError("--report-unknown needs --cosine-floor")
        if self.min_seconds > self.max_seconds:
            raise SettingsError("--min-seconds must be at most --max-seconds")


@dataclass(frozen=True)
class OutputSettings:
    """Where results go; outputs combine. Default: --live in a terminal, --text elsewhere.

    Raises:
        SettingsError: if options conflict, or an address is not valid.
    """

    live: bool = option(False, "live view in the terminal: level, best labels, events")
    text: bool = option(False, "lines of text on stdout")
    json: bool = option(False, "JSON lines on stdout")
    top: int = option(3, "labels per window in lines", "N", Limits(1, at_most=1000))
    events_only: bool = option(False, "lines of events only, not of windows")
    mqtt: str | None = option(
        None, "publish to an MQTT broker: mqtt[s]://[USER@]HOST[:PORT]", "URL", secret=True
    )
    mqtt_password_file: Path | None = option(
        None, "file of the broker's password; default: $SEMANTICAC_MQTT_PASSWORD", "FILE"
    )
    mqtt_ca: Path | None = option(
        None, "file of the certificate authorities to trust; default: the system's", "FILE"
    )
    mqtt_topic: str | None = option(None, "base topic; default: semanticac/<host name>", "TOPIC")
    mqtt_discovery: bool = option(True, "announce the listener to Home Assistant")
    clips: Path | None = option(None, "directory for a recording of each event", "DIR")
    clips_quota_mb: float = option(
        500.0,
        "total size of all clips; the oldest are deleted",
        "MB",
        Limits(above=0, below=math.inf),
    )
    serve: str | None = option(None, "serve a web page, /healthz and /metrics", "[HOST:]PORT")
    token: str | None = option(
        None,
        "secret that opens the page; safer in a file, or in $SEMANTICAC_TOKEN",
        "TOKEN",
        secret=True,
    )
    token_file: Path | None = option(None, "file of the token", "FILE")
    page_url: str | None = option(
        None, "public address of the page, such as a proxy's, for links", "URL"
    )

    def __post_init__(self) -> None:
        if self.text and self.json:
            raise SettingsError("--text and --json would mix on stdout: give one of them")
        for name, needed in _NEEDED.items():
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise SettingsError(f"{flag(name)} needs {flag(needed)}")
        if self.token is not None and self.token_file is not None:
            raise SettingsError("give --token or --token-file, not both")
        try:
            if self.mqtt is not None:
                Broker.from_url(self.mqtt, self.mqtt_ca, environment={})
            if self.mqtt_topic is not None:
                check_topic(self.mqtt_topic)
            if self.serve is not None:
                parse_address(self.serve)
        except ValueError as error:
            raise SettingsError(str(error).rstrip(".")) from error


_NEEDED = {
    "mqtt_password_file": "mqtt",
    "mqtt_ca": "mqtt",
    "mqtt_topic": "mqtt",
    "token": "serve",
    "token_file": "serve",
    "page_url": "serve",
}


@dataclass(frozen=True)
class Settings:
    """All options of the listener, in the sections of the configuration file."""

    source: SourceSettings
    model: ModelSettings
    decisions: DecisionSettings
    outputs: OutputSettings


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add all options to a command."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="read options from a TOML file; flags override it",
    )
    add_flags(parser, Settings)


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Combine the command line, its configuration file and the environment.

    Args:
        arguments: namespace of the parser that `add_settings` extended.

    Raises:
        SettingsError: see `edge.config.sections.read_options`; or if there is no model.
    """
    requested = read_options(Settings, arguments, arguments.config)
    settings = with_model(requested, arguments)
    if requested.model.model is None and requested.decisions.threshold is not None:
        # A requested threshold replaces the packaged model's thresholds of single labels.
        decisions = replace(settings.decisions, thresholds=requested.decisions.thresholds)
        settings = replace(settings, decisions=decisions)
    return settings


class _HasModel(Protocol):
    @property
    def model(self) -> ModelSettings: ...


_Schema = TypeVar("_Schema", bound=_HasModel)


def with_model(
    settings: _Schema, arguments: argparse.Namespace, ignored_sections: type | None = None
) -> _Schema:
    """Read the options again on top of the packaged model's settings, if they name no model.

    Args:
        settings: the options as read so far.
        arguments: the command line that they were read from.
        ignored_sections: see `edge.config.sections.read_options`.

    Raises:
        SettingsError: if there is no packaged model.
    """
    if settings.model.model is not None:
        return settings
    packaged = packaged_model()
    if packaged is None:
        raise SettingsError(
            "this installation has no packaged model: give a bundle with --model, or its path in "
            "SEMANTICAC_MODEL"
        )
    schema = type(settings)
    return read_options(
        schema,
        arguments,
        arguments.config,
        ignored_sections=ignored_sections,
        base=packaged.settings,
    )
