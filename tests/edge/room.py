"""A sound server to play sounds to, and the recordings that are being played."""

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import soundfile

from tests.edge.rig import PATIENCE_SECONDS
from tests.edge.sound_server import SoundServer, missing_programs
from tests.edge.sounds import STREAM_RATE_HZ, Sound


def require_sound_server() -> None:
    """Skip without a sound server."""
    if reason := missing_programs():
        pytest.skip(reason)


@dataclass
class Playing:
    """A recording that is being played.

    By this process's clock, playback began between the player's start and its end less the length
    of the recording.

    Args:
        process: the player.
        seconds: length of the recording.
        earliest: Unix time of the player's start.
        latest: latest Unix time at which playback began; NaN until `wait` returns.
    """

    process: subprocess.Popen[bytes]
    seconds: float
    earliest: float = field(default_factory=time.time)
    latest: float = float("nan")

    def wait(self) -> "Playing":
        """Wait for the end of the recording."""
        assert self.process.wait(self.seconds + PATIENCE_SECONDS) == 0
        self.latest = time.time() - self.seconds
        return self

    def stop(self) -> None:
        """Stop playback immediately."""
        self.process.kill()
        self.process.wait()

    def assert_heard(self, event: dict[str, Any], sound: Sound, hop: float, at: float = 0) -> None:
        """Assert that the event has the label and times of a sound at `at` s in the recording."""
        assert event["label"] == sound.label
        for time_key, offset in (("started_at", at), ("ended_at", at + sound.seconds)):
            error = event[time_key] - self.earliest - offset
            assert -hop <= error <= self.latest - self.earliest + hop, (time_key, error, event)


class Room:
    """A sound server and its players, as a context manager.

    Args:
        directory: where to write recordings.
        sinks: see `SoundServer`.
    """

    def __init__(self, directory: Path, sinks: tuple[str, ...] = ("vmic",)) -> None:
        require_sound_server()
        self._directory = directory
        self._players: list[subprocess.Popen[bytes]] = []
        self.server = SoundServer(sinks, STREAM_RATE_HZ)

    def __enter__(self) -> Self:
        try:
            self.server.start()
        except BaseException:
            self.server.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for player in self._players:
            player.kill()
            player.wait()
        self.server.close()

    def play(self, sound: Sound, sink: str | None = None) -> Playing:
        """Start to play a sound."""
        path = self._directory / f"{sound.label} {sound.seconds:g}.wav"
        if not path.exists():
            soundfile.write(path, sound.samples, STREAM_RATE_HZ, subtype="PCM_16")
        return self.play_file(path, sound.seconds, sink)

    def play_file(self, path: Path, seconds: float, sink: str | None = None) -> Playing:
        """Start to play a recording."""
        began = time.time()
        playing = Playing(self.server.play(path, sink), seconds, began)
        self._players.append(playing.process)
        return playing
