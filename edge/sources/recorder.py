"""The process that captures from a sound device: samples to stdout, messages to stderr.

PortAudio needs its own process. It lists the devices only when it is initialised, so finding a new
device means terminating it; a read from a sound server that hangs never returns, and terminating
PortAudio during that read aborts the process. This process is small and can be killed.

It is self-contained, without numpy or anything else of this package:

    python recorder.py [DEVICE]   HEADER, then float32 samples, channels interleaved
    python recorder.py --list     the devices as JSON
"""

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

# Rate and channels.
HEADER = struct.Struct("<II")
# Messages: the opened device; the captured source, again whenever the sound server changes it.
OPENED = "opened "
CAPTURING = "capturing "
# Exit status if another attempt would be futile.
UNUSABLE = 3

_BLOCK_SECONDS = 0.1
# Size of the device's buffer, for when this process has to wait for a core.
_LATENCY_SECONDS = 0.5
# A device with more channels than any sound card leads to a sound server, which mixes them.
_MAX_CHANNELS = 16
# ALSA devices that lead to a PulseAudio server, or to PipeWire in its place.
_SERVER_DEVICES = ("pulse", "default")
_SERVER_TIMEOUT_SECONDS = 5.0
# The card number in a device's name, which depends on the order of plugging in.
_CARD = re.compile(r" \(hw:\d+,\d+\)$")


class CaptureError(Exception):
    """The capture failed; the message is the reason."""


def main(arguments: list[str]) -> int:
    """Run the process.

    Args:
        arguments: command-line arguments after the program's name.

    Returns:
        Exit status: 0, 1 after a failure, `UNUSABLE` if PortAudio is missing.
    """
    send = _redirect_stderr()
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        send(f"{error}; install it, as by: apt-get install libportaudio2")
        return UNUSABLE
    except Exception as error:  # PortAudioError, defined in the module that failed to load.
        send(_reason(error))
        return 1
    try:
        if arguments == ["--list"]:
            print(json.dumps(_devices(sounddevice) + _server_sources()))
        else:
            _record(sounddevice, arguments[0] if arguments else "", send)
    except BrokenPipeError:
        pass
    except (CaptureError, sounddevice.PortAudioError) as error:
        send(_reason(error))
        return 1
    return 0


def _record(sounddevice: Any, requested: str, send: Callable[[str], None]) -> None:
    """Write samples until the device fails or the reader is gone."""
    # The reader keeps stdin open: when it closes, this process ends, even during a hanging read.
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    device, source = _find(requested, _devices(sounddevice))
    if source:
        os.environ["PULSE_SOURCE"] = source
    rate_hz = device["rate_hz"]
    channels = device["channels"] if device["channels"] <= _MAX_CHANNELS else 1
    try:
        stream = sounddevice.RawInputStream(
            rate_hz,
            device=device["index"],
            channels=channels,
            dtype="float32",
            latency=_LATENCY_SECONDS,
        )
        stream.start()
    except sounddevice.PortAudioError as error:
        raise CaptureError(
            f"{source or device['name']} cannot be opened: {_reason(error)}"
        ) from error
    send(OPENED + (source or device["name"]))
    follows = not source and (not requested or device["name"] in _SERVER_DEVICES)
    watching = (device["name"], source, follows, send)
    threading.Thread(target=_watch, args=watching, daemon=True).start()
    sys.stdout.buffer.write(HEADER.pack(rate_hz, channels))
    while True:
        try:
            # Ignore the overflow flag: sound gets lost without it. The reader uses the clock.
            block, _ = stream.read(round(_BLOCK_SECONDS * rate_hz))
        except sounddevice.PortAudioError as error:
            raise CaptureError(f"the capture failed: {_reason(error)}") from error
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


def _devices(sounddevice: Any) -> list[dict[str, Any]]:
    """PortAudio's input devices, those of its default host first."""
    hosts = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    devices = [
        {
            "name": device["name"],
            "index": device["index"],
            "host": hosts[device["hostapi"]]["name"],
            "channels": device["max_input_channels"],
            "rate_hz": round(device["default_samplerate"]),
            "is_default": device["index"] == default,
        }
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    ]
    default_host = hosts[sounddevice.default.hostapi]["name"]
    return sorted(devices, key=lambda device: device["host"] != default_host)


def _find(requested: str, devices: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return the device to open and, for a source of the sound server, its name there."""
    if not devices:
        raise CaptureError("there is no sound device to capture from, and no sound server")
    if not requested:
        return next((device for device in devices if device["is_default"]), devices[0]), ""
    if requested.isdecimal():
        for device in devices:
            if device["index"] == int(requested):
                return device, ""
        raise CaptureError(f"there is no sound device {requested} to capture from")
    names = list(dict.fromkeys(device["name"] for device in devices))
    if name := match(requested, names):
        return next(device for device in devices if device["name"] == name), ""
    ways = [device for device in devices if device["name"] in _SERVER_DEVICES]
    if ways and (source := match(requested, [source["name"] for source in _server_sources()])):
        return ways[0], source
    raise CaptureError(f"there is no sound device {requested!r}")


def match(requested: str, names: list[str]) -> str | None:
    """Find the requested device.

    Args:
        requested: a complete name, a name without its card number, or part of a name; case does
            not matter.
        names: names of all devices.

    Returns:
        The complete name, or None.

    Raises:
        CaptureError: if several devices match.
    """
    requested = requested.casefold()
    for fits in (
        lambda name: name == requested,
        lambda name: _CARD.sub("", name) == _CARD.sub("", requested),
        # A monitor captures what is played; its name may contain a microphone's name.
        lambda name: requested in name and not name.endswith(".monitor"),
    ):
        found = [name for name in names if fits(name.casefold())]
        if len(found) > 1:
            raise CaptureError(f"{requested!r} may be {' or '.join(found)}; give the complete name")
        if found:
            return found[0]
    return None


def _server_sources() -> list[dict[str, Any]]:
    """The sound server's sources, which PortAudio does not list."""
    return [
        {
            "name": name,
            "index": None,
            "host": "sound server",
            "channels": int(channels),
            "rate_hz": int(rate_hz),
            "is_default": False,
        }
        for name, channels, rate_hz in re.findall(
            r"^\d+\t(\S+)\t\S+\t\S+ (\d+)ch (\d+)Hz", _pactl("list", "short", "sources"), re.M
        )
    ]


def _watch(device_name: str, source: str, follows: bool, send: Callable[[str], None]) -> None:
    """Report the captured source. When the sound server replaces it, follow or end.

    A server silently replaces a source that vanishes; the samples do not show it.
    """
    try:
        changes = subprocess.Popen(
            ["pactl", "subscribe"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
        )
    except OSError:
        send(CAPTURING + device_name)
        return
    now = _server_source()
    send(CAPTURING + (now or device_name))
    if not now:
        changes.kill()
        return
    source = source or now
    for line in changes.stdout or ():
        if b" on source-output " in line:
            now = _server_source()
        if now and now != source:
            if not follows:
                send(f"{source} is gone, and the sound server replaced it by {now}")
                os._exit(1)
            source = now
            send(CAPTURING + source)


def _server_source() -> str | None:
    """The name of the sound server's source that this process captures from, if any."""
    this_process = f'application.process.id = "{os.getpid()}"'
    for output in _pactl("list", "source-outputs").split("Source Output #"):
        index = re.search(r"^\s*Source: (\d+)$", output, re.M)
        if index and this_process in output:
            sources = _pactl("list", "short", "sources")
            name = re.search(rf"^{index[1]}\t(\S+)", sources, re.M)
            return name and name[1]
    return None


def _pactl(*arguments: str) -> str:
    """The output of `pactl`; empty if there is no sound server or it hangs."""
    try:
        return subprocess.run(
            ["pactl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
            timeout=_SERVER_TIMEOUT_SECONDS,
            text=True,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _redirect_stderr() -> Callable[[str], None]:
    """Silence ALSA's and PortAudio's output; return a function that writes a message to stderr."""
    messages = os.fdopen(os.dup(2), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)

    def send(text: str) -> None:
        print(" ".join(text.split()), file=messages)

    return send


def _end_with_stdin() -> None:
    """End the process when stdin closes, even if another thread hangs."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():  # Started by `Child`: end the child processes too.
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def _reason(error: Exception) -> str:
    """PortAudio's message, with that of the audio system below it."""
    if isinstance(error, CaptureError) or not error.args:
        return str(error)
    text, *_, host = *error.args, None
    return f"{text} ({host[2]})" if isinstance(host, tuple) and host[2] else str(text)


if __name__ == "__main__":
    exit_status = main(sys.argv[1:])
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    # PortAudio's termination may hang with the sound server.
    os._exit(exit_status)
