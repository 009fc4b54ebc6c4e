"""The options of listening: the single list that flags and configuration file come from."""

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
from edge.web import parse_address

_SOURCES = ("mic", "device", "file", "stdin", "url")


@dataclass(frozen=True)
class SourceSettings:
    """Where the sound comes from: one of the first five.

    Raises:
        SettingsError: if there is none or more than one, or the rest does not fit it.
    """

    mic: bool = option(False, "listen to the default microphone", overrides_section=True)
    device: str | None = option(
        None,
        "listen to this one: its number, or a part of its name",
        "NAME|INDEX",
        overrides_section=True,
    )
    file: Path | None = option(
        None, "a recording: WAV, FLAC, OGG, MP3, ...", "PATH", overrides_section=True
    )
    stdin: bool = option(False, "raw samples from a pipe", overrides_section=True)
    url: str | None = option(
        None,
        "a stream that ffmpeg plays: RTSP, HTTP, ...",
        "URL",
        secret=True,
        overrides_section=True,
    )
    rate: int | None = option(None, "sample rate of --stdin", "HZ", Limits(1, at_most=10**6))
    channels: int | None = option(
        None, "channels of --stdin, averaged; default: 1", "N", Limits(1, at_most=256)
    )
    format: Literal["s16le", "f32le"] | None = option(None, "samples of --stdin; default: s16le")

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

    @property
    def live(self) -> bool:
        """Whether what is missed is lost for good."""
        return self.file is None


@dataclass(frozen=True)
class ModelSettings:
    """What listens."""

    model: Path | None = option(
        None,
        "the .tflite bundle; default: $SEMANTICAC_MODEL, or the one of this package, "
        "with decisions that fit it",
        "PATH",
        environment="SEMANTICAC_MODEL",
    )
    hop: float = option(
        1.0, "time between the starts of two windows", "SECONDS", Limits(above=0, at_most=1e6)
    )
    threads: int = option(1, "CPU threads of the model", "N", Limits(1, at_most=256))


@dataclass(frozen=True)
class DecisionSettings:
    """What counts as an event.

    Raises:
        SettingsError: if the options do not fit together.
    """

    threshold: float | None = option(
        None,
        "smoothed score from which a label's event starts; default: "
        f"{Policy.threshold:g}, or what the packaged model comes with",
        "SCORE",
        Limits(above=0, at_most=1),
    )
    thresholds: Path | None = option(
        None, "thresholds of single labels, as `semanticac-edge tune` writes them", "FILE"
    )
    smoothing: int = option(
        Policy.smoothing_windows,
        "windows in the mean; 1 is off",
        "WINDOWS",
        Limits(1, at_most=1000),
    )
    release: float = option(
        Policy.release,
        "share of the threshold below which an event ends",
        "SHARE",
        Limits(above=0, at_most=1),
    )
    min_seconds: float = option(
        Policy.min_seconds, "report no shorter sound", "SECONDS", Limits(0, below=math.inf)
    )
    max_seconds: float = option(
        Policy.max_seconds, "end a longer event", "SECONDS", Limits(above=0, below=math.inf)
    )
    refractory: float = option(
        Policy.refractory_seconds,
        "after an event, start none of its label for so long",
        "SECONDS",
        Limits(0, below=math.inf),
    )
    cosine_floor: float | None = option(
        None, "cosine similarity that a label must reach to count", "COSINE", Limits(-1, at_most=1)
    )
    report_unknown: bool = option(
        False, "make events, called unknown, of sounds below the cosine floor"
    )
    # What a muted input or a silent recording gives; a room is louder.
    gate_dbfs: float = option(
        -70.0, "spare the model quieter windows; -120 is off", "DBFS", Limits(-120, below=0)
    )

    def __post_init__(self) -> None:
        if self.report_unknown and self.cosine_floor is None:
            raise SettingsError("--report-unknown needs --cosine-floor")
        if self.min_seconds > self.max_seconds:
            raise SettingsError("--min-seconds must be at most --max-seconds")


@dataclass(frozen=True)
class OutputSettings:
    """Where results go: any of them; by default a view in the terminal, or lines of text.

    Raises:
        SettingsError: if the options do not fit together, or an address is none.
    """

    live: bool = option(False, "a view in the terminal: level, best labels, events")
    text: bool = option(False, "lines of text on stdout")
    json: bool = option(False, "JSON lines on stdout")
    top: int = option(3, "labels a window in lines", "N", Limits(1, at_most=1000))
    events_only: bool = option(False, "no windows in lines")
    mqtt: str | None = option(
        None, "an MQTT broker: mqtt[s]://[USER@]HOST[:PORT]", "URL", secret=True
    )
    mqtt_password_file: Path | None = option(
        None, "its password; default: $SEMANTICAC_MQTT_PASSWORD", "FILE"
    )
    mqtt_ca: Path | None = option(None, "the authorities to trust; default: the system's", "FILE")
    mqtt_topic: str | None = option(None, "base; default: semanticac/<host name>", "TOPIC")
    mqtt_discovery: bool = option(True, "introduce the listener to Home Assistant")
    clips: Path | None = option(None, "a recording of each event", "DIR")
    clips_quota_mb: float = option(
        500.0, "size of all clips; the oldest are deleted", "MB", Limits(above=0, below=math.inf)
    )
    serve: str | None = option(None, "a web page, and health for monitoring", "[HOST:]PORT")
    token: str | None = option(
        None,
        "what visitors of the page must know; better in a file, or in $SEMANTICAC_TOKEN",
        "TOKEN",
        secret=True,
    )
    token_file: Path | None = option(None, "the same, in a file", "FILE")
    page_url: str | None = option(
        None, "where others find the page, such as a proxy's address, for links", "URL"
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
    """All options of listening, in the sections of the configuration file."""

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
        help="read options from a TOML file; those on the command line count over it",
    )
    add_flags(parser, Settings)


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Put together what the command line, its configuration file and the environment say.

    Args:
        arguments: as `add_settings`' parser read them.

    Raises:
        SettingsError: see `edge.config.sections.read_options`; or if there is no model.
    """
    given = read_options(Settings, arguments, arguments.config)
    settings = with_model(given, arguments)
    if given.model.model is None and given.decisions.threshold is not None:
        # It stands in the place of the packaged model's, not beside them.
        decisions = replace(settings.decisions, thresholds=given.decisions.thresholds)
        settings = replace(settings, decisions=decisions)
    return settings


class _HasModel(Protocol):
    @property
    def model(self) -> ModelSettings: ...


_Schema = TypeVar("_Schema", bound=_HasModel)


def with_model(
    settings: _Schema, arguments: argparse.Namespace, ignored_sections: type | None = None
) -> _Schema:
    """Read options again, over those of the packaged model, if they name no model.

    Args:
        settings: as they were read.
        arguments: what they were read from.
        ignored_sections: see `edge.config.sections.read_options`.

    Raises:
        SettingsError: if there is no packaged model.
    """
    if settings.model.model is not None:
        return settings
    packaged = packaged_model()
    if packaged is None:
        raise SettingsError(
            "give the bundle with --model, or its path in SEMANTICAC_MODEL: "
            "none came with this installation"
        )
    schema = type(settings)
    return read_options(
        schema,
        arguments,
        arguments.config,
        ignored_sections=ignored_sections,
        base=packaged.settings,
    )
