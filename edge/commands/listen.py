"""`semanticac-edge` without a command name: the listener."""

import argparse
import logging
import signal
import sys

from edge.config.assembly import make_pipeline, make_sinks, make_source
from edge.config.settings import add_settings, read_settings
from edge.health import Health
from edge.inference.packaged import is_packaged
from edge.listener import Listener, Outputs, Pipeline
from edge.sd_notify import Notifier
from edge.signals import Requests
from edge.sinks.clips import clip_name
from edge.sources.microphone import list_devices

_LOGGER = logging.getLogger("semanticac_edge")

DESCRIPTION = (
    "Listen to a source of sound and report events. SIGHUP reloads model, thresholds and "
    "decisions. `tune` finds thresholds, `check` tests the options, `install-service` prints a "
    "systemd unit, `model` describes the packaged model."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser whose description is `DESCRIPTION`."""
    parser.add_argument("--list-devices", action="store_true", help="list the microphones and exit")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Listen until the source ends or a signal asks to stop.

    Args:
        arguments: namespace of the parser that `add_arguments` extended.

    Returns:
        Exit status: 0, or 130 after Ctrl-C.

    Raises:
        BundleError: if the bundle cannot be used.
        ImportError: if a package is not installed.
        OSError: if a file or a port cannot be opened.
        RuntimeError: if the model fails.
        SettingsError: if options conflict.
        SourceError: if the source fails.
        ValueError: if a threshold, a topic or a similar value is not valid.
    """
    if arguments.list_devices:
        _show_devices()
        return 0
    settings = read_settings(arguments)
    live = settings.source.live
    health = Health(settings.model.hop)
    with Requests() as requests:
        pipeline = make_pipeline(settings)
        if settings.model.model and is_packaged(settings.model.model):
            _LOGGER.info("No --model: using the packaged %s.", pipeline.model_name)
        health.hop_seconds = pipeline.classifier.hop_seconds
        source = make_source(
            settings.source,
            pipeline.classifier.front_end.sample_rate_hz,
            health,
            lambda: requests.stop is not None,
        )

        def reload() -> Pipeline:
            changed = read_settings(arguments)
            if (changed.source, changed.outputs) != (settings.source, settings.outputs):
                _LOGGER.warning("Changes of source and outputs take effect after a restart.")
            return make_pipeline(changed)

        Listener(
            source,
            pipeline.classifier,
            pipeline.detector,
            Outputs(make_sinks(settings, pipeline, health), health, strict=not live),
            health,
            live=live,
            name_clip=clip_name if settings.outputs.clips else None,
            requests=requests,
            reload=reload,
            notifier=Notifier(),
        ).run()
    return 130 if requests.stop is signal.SIGINT else 0


def _show_devices() -> None:
    """Print a table of the microphones."""
    rows = [("index", "name", "host", "channels", "rate")]
    rows += [
        (
            "" if device.index is None else str(device.index),
            device.name + (" (default)" if device.is_default else ""),
            device.host,
            str(device.channels),
            f"{device.rate_hz} Hz",
        )
        for device in list_devices()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    if len(rows) == 1:
        print("no microphone found", file=sys.stderr)
