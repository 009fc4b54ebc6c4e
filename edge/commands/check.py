"""The command that tries everything a listener would use, and says what it would do."""

import argparse
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable

import numpy as np

from edge.config.assembly import make_broker, make_pipeline, make_policy, make_source, page_token
from edge.config.settings import Settings, add_settings, read_settings
from edge.health import Health
from edge.inference.bundle import BundleError
from edge.inference.level import FLOOR_DBFS, level_dbfs
from edge.inference.packaged import is_packaged
from edge.listener import Pipeline
from edge.sinks.mqtt import default_topic
from edge.sinks.publisher import check_broker
from edge.sources import Gap, SourceError
from edge.types import FloatArray
from edge.web import parse_address
from edge.web.address import bind, check_token, url
from edge.web.sink import require_packages

DESCRIPTION = (
    "Try the options: load the model, listen to the source for a second, connect to the broker, "
    "write to the directory of clips, take the port of the page. Prints a line for each, and "
    "ends with status 1 if one fails. Give the options that the listener will have."
)

_SOUND_SECONDS = 1.0
_SOURCE_PATIENCE_SECONDS = 15.0
_TIMED_WINDOWS = 3
# What front ends assume where the model cannot be loaded.
_RATE_HZ = 32_000
_FAILURES = (BundleError, SourceError, ImportError, OSError, RuntimeError, ValueError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command; `parser` should have `DESCRIPTION`."""
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Try everything.

    Args:
        arguments: as `add_arguments`' parser read them.

    Returns:
        Exit status: 0, or 1 if something failed.

    Raises:
        SettingsError: if the options do not fit together.
    """
    attempts = _Attempts(read_settings(arguments)).all()
    # What goes wrong is told here; "trying again" would be wrong.
    logger = logging.getLogger("semanticac_edge")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        failures = sum(not _try(name, attempt) for name, attempt in attempts.items())
    finally:
        logger.setLevel(level)
    print(f"{failures} of these failed" if failures else "all is well")
    return 1 if failures else 0


def _try(name: str, attempt: Callable[[], str]) -> bool:
    """Print what came of it; say whether it went well."""
    try:
        word, result = "ok", attempt()
    except _FAILURES as error:
        word, result = "FAILED", " ".join(str(error).split())
    print(f"{word:6}  {name:9}  {result}", flush=True)
    return word == "ok"


class _Attempts:
    """What there is to try; each method gives a line of text, or raises one of `_FAILURES`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pipeline: Pipeline | None = None

    def all(self) -> dict[str, Callable[[], str]]:
        """The attempts that the settings call for, by name, in order."""
        outputs = self._settings.outputs
        attempts = {"model": self.model, "decisions": self.decisions, "source": self.source}
        if outputs.mqtt is not None:
            attempts["mqtt"] = self.mqtt
        if outputs.clips is not None:
            attempts["clips"] = self.clips
        if outputs.serve is not None:
            attempts["page"] = self.page
        return attempts

    def model(self) -> str:
        """Load it, and take the time of a window."""
        self._pipeline = make_pipeline(self._settings)
        classifier = self._pipeline.classifier
        window_seconds = classifier.front_end.window_seconds
        seconds = []
        for seed in range(_TIMED_WINDOWS):
            noise = np.random.default_rng(seed).normal(
                scale=0.1, size=classifier.front_end.window_samples
            )
            started = time.perf_counter()
            classifier.push(noise.astype(np.float32))
            classifier.flush()
            seconds.append(time.perf_counter() - started)
        share = min(seconds) / classifier.hop_seconds
        path = self._settings.model.model
        origin = ", of this package" if path and is_packaged(path) else ""
        return (
            f"{path}{origin}: {len(classifier.labels)} labels, windows of "
            f"{window_seconds:g} s each {classifier.hop_seconds:g} s; one takes "
            f"{1000 * min(seconds):.0f} ms, {share:.0%} of the time there is"
        )

    def decisions(self) -> str:
        """Read the thresholds."""
        policy = make_policy(self._settings.decisions)
        own = len(policy.thresholds)
        return (
            f"an event starts at a score of {policy.threshold:g} (labels with another one: {own}), "
            f"smoothed over {policy.smoothing_windows} windows, and lasts at most "
            f"{policy.max_seconds:g} s"
        )

    def source(self) -> str:
        """Listen until there is a second of sound, or time is up."""
        settings = self._settings.source
        if settings.stdin:
            return "raw samples from standard input, which is left alone here"
        rate_hz = self._pipeline.classifier.front_end.sample_rate_hz if self._pipeline else _RATE_HZ
        health = Health()
        source = make_source(settings, rate_hz, health, lambda: False)
        give_up_at = time.monotonic() + _SOURCE_PATIENCE_SECONDS
        chunks: list[FloatArray] = []
        try:
            for item in source:
                if not isinstance(item, Gap):
                    chunks.append(item)
                if sum(map(len, chunks)) >= _SOUND_SECONDS * rate_hz:
                    break
                if time.monotonic() > give_up_at:
                    raise SourceError(_missing(health))
        finally:
            source.close()
        sound = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        if not sound.size:
            raise SourceError(_missing(health))
        level = level_dbfs(sound)
        silent = "; is it muted?" if level <= FLOOR_DBFS else ""
        return f"{health.source}, at a level of {level:.0f} dBFS{silent}"

    def mqtt(self) -> str:
        """Connect to the broker, under another name than the listener's."""
        outputs = self._settings.outputs
        broker = make_broker(outputs, outputs.mqtt or "")
        check_broker(broker, f"semanticac-check-{os.getpid()}")
        topic = outputs.mqtt_topic or default_topic()
        discovery = ", and introduces itself to Home Assistant" if outputs.mqtt_discovery else ""
        return f"{broker}: connected; publishes under {topic}{discovery}"

    def clips(self) -> str:
        """Write a file where the clips will go."""
        directory, quota_mb = self._settings.outputs.clips, self._settings.outputs.clips_quota_mb
        assert directory is not None, "only tried where there is one"
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))
            file.flush()
        free_mb = shutil.disk_usage(directory).free / 1e6
        tight = "; less is free" if free_mb < quota_mb else ""
        return f"{directory}: can be written; at most {quota_mb:g} MB of {free_mb:.0f} MB{tight}"

    def page(self) -> str:
        """Serve it for a moment."""
        outputs = self._settings.outputs
        assert outputs.serve is not None, "only tried where there is one"
        host, port = parse_address(outputs.serve)
        token = page_token(outputs)
        check_token(host, token)
        require_packages()
        with bind(host, port) as listener:
            port = listener.getsockname()[1]
        return f"{url(host, port)}, {'for those who know the token' if token else 'for everyone'}"


def _missing(health: Health) -> str:
    """Why there is no sound, which a source that is up does not know."""
    return f"no sound from {health.source}" if health.source_up else health.source
