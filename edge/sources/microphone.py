"""Microphones: any device that PortAudio or the sound server has."""

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
from edge.sources.downmix import MIX
from edge.sources.pcm import SampleFormat
from edge.sources.supervised import SupervisedSource

_LIST_SECONDS = 15.0


@dataclass(frozen=True)
class Device:
    """A capture device.

    Args:
        name: its name; any unique part of it selects the device.
        index: its number, valid until devices are added or removed; None for the sound server's
            own devices.
        host: the audio system that provides it: ALSA, Core Audio, ..., or the sound server.
        channels: number of channels; all are captured.
        rate_hz: native sample rate.
        is_default: whether it is captured when no device is named.
    """

    name: str
    index: int | None
    host: str
    channels: int
    rate_hz: int
    is_default: bool


class MicrophoneSource(SupervisedSource):
    """Captures from a microphone until `close`, whatever happens to the device.

    A child process captures (see `edge.sources.recorder`), at the device's native rate. Without a
    named device, the capture follows the sound server's default. A named device that is gone is
    waited for, even if the server offers another one instead.

    Args:
        sample_rate_hz: rate of the chunks.
        device: name, part of a name, or index; None for the default device. Names are stable: an
            index is replaced by the device's name once the device is open.
        health: receives the source's state; the listener counts the gaps.
        queue_seconds: sound that may wait for the listener; beyond it, the oldest is dropped.
        stall_seconds: time without samples after which the device counts as failed.
        retry_seconds: shortest and longest pause before another attempt.
        channel: `"mix"`, the mean of its channels; `"left"`, `"right"`, or a number from 1.

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
        channel: str = MIX,
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
            # The recorder writes blocks of 0.1 s.
            tolerance_seconds=0.1,
            settle_seconds=0.5,
            channel=channel,
        )
        self._device = "" if device is None else str(device)
        self._capturing = ""

    def _command(self) -> Sequence[str]:
        return _recorder(self._device)

    def _format(self, child: Child) -> tuple[int, int, SampleFormat]:
        header = child.read_exactly(recorder.HEADER.size, self._start_seconds)
        rate_hz, channels = recorder.HEADER.unpack(header)
        return rate_hz, channels, "f32le"

    def _has_ended(self, status: int, seconds: float) -> bool:
        if status == recorder.UNUSABLE:
            raise SourceError(f"No sound from {self._name}: {self._last_message}.")
        return False

    def _on_message(self, message: str) -> None:
        if message.startswith(recorder.OPENED):
            if self._device.isdecimal():
                # Indices change when devices are added or removed.
                self._device = message.removeprefix(recorder.OPENED)
        elif message.startswith(recorder.CAPTURING):
            capturing = message.removeprefix(recorder.CAPTURING)
            if capturing != self._capturing:
                self._capturing = capturing
                self._describe(f"{self._name}, {capturing}")
        else:
            super()._on_message(message)


def list_devices() -> list[Device]:
    """List the capture devices: PortAudio's, the default host's first, then the sound server's.

    Raises:
        ImportError: if sounddevice is not installed.
        SourceError: if PortAudio is missing or hangs.
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
    """The command that runs the recorder, which can import only installed packages."""
    return [sys.executable, "-P", str(Path(recorder.__file__)), *arguments]


def _require_sounddevice() -> None:
    if importlib.util.find_spec("sounddevice") is None:
        raise ImportError(
            "A microphone needs sounddevice: pip install sounddevice, and "
            "PortAudio, as by: apt-get install libportaudio2."
        )
