"""A microphone: any device that PortAudio finds, or that the sound server has."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.health import Health
from edge.sources import recorder
from edge.sources.base import SourceError
from edge.sources.child import Child
from edge.sources.pcm import SampleFormat
from edge.sources.supervised import SupervisedSource

_LIST_SECONDS = 15.0


@dataclass(frozen=True)
class Device:
    """Something to capture from.

    Args:
        name: any part of it that no other has stands for it.
        index: stands for it until devices come or go; None for the sound server's own.
        host: what makes it available: ALSA, Core Audio, ..., or the sound server.
        channels: all are captured, and averaged.
        rate_hz: its own rate.
        is_default: it is captured from where no other is asked for.
    """

    name: str
    index: int | None
    host: str
    channels: int
    rate_hz: int
    is_default: bool


class MicrophoneSource(SupervisedSource):
    """Captures from a microphone, for as long as it takes.

    A child process does (see `edge.sources.recorder`), at the device's own rate. The default
    device is followed where the sound server moves it; a named one is waited for when it is gone,
    even if the server offers another in its place.

    Args:
        sample_rate_hz: rate of the chunks.
        device: name, part of a name, or index; None for the default one. Names last: an index
            becomes its device's name once that is open.
        health: where to say how the source is doing; gaps are the listener's to count.
        queue_seconds: sound that may wait for the listener; then the oldest is dropped.
        stall_seconds: the device has failed when nothing comes for so long.
        retry_seconds: shortest and longest pause before another try.

    Raises:
        ImportError: if sounddevice is not installed.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        device: str | int | None = None,
        health: Health | None = None,
        *,
        queue_seconds: float = 10.0,
        stall_seconds: float = 3.0,
        retry_seconds: tuple[float, float] = (1.0, 30.0),
    ) -> None:
        _require_sounddevice()
        super().__init__(
            "the default microphone" if device is None else f"microphone {str(device)!r}",
            sample_rate_hz,
            health,
            queue_seconds=queue_seconds,
            start_seconds=10.0,
            stall_seconds=stall_seconds,
            retry_seconds=retry_seconds,
            # The device gives blocks of 0.1 s.
            tolerance_seconds=0.1,
            settle_seconds=0.5,
        )
        self._device = "" if device is None else str(device)
        self._capturing = ""

    def _command(self) -> Sequence[str]:
        return _recorder(self._device)

    def _format(self, child: Child) -> tuple[int, int, SampleFormat]:
        header = child.read_exactly(recorder.HEADER.size, self._start_seconds)
        rate_hz, channels = recorder.HEADER.unpack(header)
        return rate_hz, channels, "f32le"

    def _is_over(self, status: int, seconds: float) -> bool:
        if status == recorder.UNUSABLE:
            raise SourceError(f"No sound from {self._name}: {self._last_words}.")
        return False

    def _hear(self, words: str) -> None:
        if words.startswith(recorder.OPENED):
            if self._device.isdecimal():
                # Numbers are handed out anew when devices come and go.
                self._device = words.removeprefix(recorder.OPENED)
        elif words.startswith(recorder.CAPTURING):
            capturing = words.removeprefix(recorder.CAPTURING)
            if capturing != self._capturing:
                self._capturing = capturing
                self._describe(f"{self._name}, {capturing}")
        else:
            super()._hear(words)


def list_devices() -> list[Device]:
    """List what can be captured from: PortAudio's devices, the default host's first, and the
    sound server's own.

    Raises:
        ImportError: if sounddevice is not installed.
        SourceError: if PortAudio is missing, or hangs.
    """
    _require_sounddevice()
    try:
        done = subprocess.run(
            _recorder("--list"), capture_output=True, text=True, timeout=_LIST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError("The sound server does not answer; restart it.") from error
    if done.returncode:
        raise SourceError(f"The sound devices cannot be listed: {done.stderr.strip()}.")
    return [Device(**device) for device in json.loads(done.stdout)]


def _recorder(*arguments: str) -> list[str]:
    """The command that runs the recorder, with nothing importable but what is installed."""
    return [sys.executable, "-P", str(Path(recorder.__file__)), *arguments]


def _require_sounddevice() -> None:
    if importlib.util.find_spec("sounddevice") is None:
        raise ImportError(
            "A microphone needs sounddevice: pip install sounddevice, and "
            "PortAudio, as by: apt-get install libportaudio2."
        )
