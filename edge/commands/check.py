"""`semanticac-edge check`: tries each part of a listener and reports what works."""

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
    "Check the options of a listener before it runs: load the model, capture a second of sound, "
    "connect to the broker, write to the directory of clips, open the port of the page. Prints "
    "one line per check and exits with status 1 if one fails."
)

_SOUND_SECONDS = 1.0
_SOURCE_PATIENCE_SECONDS = 15.0
# A source that has failed is given this long to come back.
_FAILED_PATIENCE_SECONDS = 3.0
_QUIET_DBFS = -50.0
_TIMED_WINDOWS = 3
# Sample rate of the source if the model cannot be loaded.
_RATE_HZ = 32_000
_FAILURES = (BundleError, SourceError, ImportError, OSError, RuntimeError, ValueError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser whose description is `DESCRIPTION`."""
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run all checks that the options call for, and print their results.

    Args:
        arguments: namespace of the parser that `add_arguments` extended.

    Returns:
        Exit status: 0, or 1 if something failed.

    Raises:
        SettingsError: if options conflict.
    """
    checks = _Checks(read_settings(arguments)).all()
    # The result lines report failures; a source's log of its retries would mislead.
    logger = logging.getLogger("semanticac_edge")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        failures = sum(not _passes(name, check) for name, check in checks.items())
    finally:
        logger.setLevel(level)
    print(f"{failures} of {len(checks)} checks failed" if failures else "all checks passed")
    return 1 if failures else 0


def _passes(name: str, check: Callable[[], str]) -> bool:
    """Run a check, print its result and return whether it passed."""
    try:
        word, result = "ok", check()
    except _FAILURES as error:
        word, result = "FAILED", " ".join(str(error).split())
    print(f"{word:6}  {name:9}  {result}", flush=True)
    return word == "ok"


class _Checks:
    """The checks; each method returns a line of text or raises one of `_FAILURES`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pipeline: Pipeline | None = None

    def all(self) -> dict[str, Callable[[], str]]:
        """Return the checks that the settings call for, by name, in order."""
        outputs = self._settings.outputs
        checks = {"model": self.model, "decisions": self.decisions, "source": self.source}
        if outputs.mqtt is not None:
            checks["mqtt"] = self.mqtt
        if outputs.clips is not None:
            checks["clips"] = self.clips
        if outputs.serve is not None:
            checks["page"] = self.page
        return checks

    def model(self) -> str:
        """Load the model and time a window."""
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
        labels = "labels" if classifier.contract.exclusive else "independent labels"
        origin = " (packaged)" if path and is_packaged(path) else ""
        return (
            f"{path}{origin}: {len(classifier.labels)} {labels}, a window of "
            f"{window_seconds:g} s every {classifier.hop_seconds:g} s, classified in "
            f"{1000 * min(seconds):.0f} ms ({share:.0%} of the hop)"
        )

    def decisions(self) -> str:
        """Read the thresholds."""
        decisions = self._settings.decisions
        policy = make_policy(decisions, self._settings.model.hop)
        return (
            f"events start at a score of {policy.threshold:g} (labels with a threshold of their "
            f"own: {len(policy.thresholds)}), smoothed over {decisions.smoothing:g} s, "
            f"and last at most {policy.max_seconds:g} s"
        )

    def source(self) -> str:
        """Capture a second of sound, or time out."""
        settings = self._settings.source
        if settings.stdin:
            return "raw samples from standard input, not read by this check"
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
                if health.failed:
                    give_up_at = min(give_up_at, time.monotonic() + _FAILED_PATIENCE_SECONDS)
                if time.monotonic() > give_up_at:
                    raise SourceError(_missing(health))
        finally:
            source.close()
        sound = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        if not sound.size:
            raise SourceError(_missing(health))
        level = level_dbfs(sound)
        hint = ""
        if level <= FLOOR_DBFS:
            hint = "; is it muted?"
        elif level < _QUIET_DBFS:
            hint = "; quiet: if there was sound, raise the input's gain, or set --gain"
        return f"{health.source}, level {level:.0f} dBFS{hint}"

    def mqtt(self) -> str:
        """Connect to the broker with a client id that is not the listener's."""
        outputs = self._settings.outputs
        broker = make_broker(outputs, outputs.mqtt or "")
        check_broker(broker, f"semanticac-check-{os.getpid()}")
        topic = outputs.mqtt_topic or default_topic()
        discovery = ", with Home Assistant discovery" if outputs.mqtt_discovery else ""
        return f"{broker}: connected; topics under {topic}{discovery}"

    def clips(self) -> str:
        """Write a file to the directory of clips."""
        directory, quota_mb = self._settings.outputs.clips, self._settings.outputs.clips_quota_mb
        assert directory is not None, "checked only if it is set"
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))
            file.flush()
        free_mb = shutil.disk_usage(directory).free / 1e6
        tight = ", less than the quota" if free_mb < quota_mb else ""
        return f"{directory}: writable; quota {quota_mb:g} MB, {free_mb:.0f} MB free{tight}"

    def page(self) -> str:
        """Open the port of the page."""
        outputs = self._settings.outputs
        assert outputs.serve is not None, "checked only if it is set"
        host, port = parse_address(outputs.serve)
        token = page_token(outputs)
        check_token(host, token)
        require_packages()
        with bind(host, port) as listener:
            port = listener.getsockname()[1]
        return f"{url(host, port)}, {'token required' if token else 'open to everyone'}"


def _missing(health: Health) -> str:
    """Return why there is no sound; a source that is up gives no reason itself."""
    return f"no sound from {health.source}" if health.source_up else health.source
