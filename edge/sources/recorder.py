"""The process that captures from a sound device: samples to stdout, words to stderr.

A process of its own, as nothing else gets rid of PortAudio. It lists the devices once, when it is
initialised, so finding one that came later means terminating it; a read from a sound server that
hangs never returns, and terminating PortAudio under that read aborts the process. This process is
small, and can be killed.

It stands alone, without numpy or anything of this package:

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
# Words: the device that was opened; what it captures, again when the sound server moves it.
OPENED = "opened "
CAPTURING = "capturing "
# Exit status where another try would be in vain.
UNUSABLE = 3

_BLOCK_SECONDS = 0.1
# Room in the device's buffer, should this process have to wait for a core.
_LATENCY_SECONDS = 0.5
# A device with more channels than sound cards have leads to a sound server, which mixes them.
_MOST_CHANNELS = 16
# ALSA's ways to a PulseAudio server, or a PipeWire that stands in for one.
_SERVER_DEVICES = ("pulse", "default")
_SERVER_PATIENCE_SECONDS = 5.0
# A device's name less its card's number, which changes with the order of plugging in.
_CARD = re.compile(r" \(hw:\d+,\d+\)$")


class CaptureError(Exception):
    """Why there is no sound."""


def main(arguments: list[str]) -> int:
    """Run the process.

    Args:
        arguments: after the program's name.

    Returns:
        Exit status: 0, 1 after a failure, `UNUSABLE` where PortAudio is missing.
    """
    say = _own_stderr()
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        say(f"{error}; install it, as by: apt-get install libportaudio2")
        return UNUSABLE
    except Exception as error:  # PortAudio's own, which is of the module that failed to load.
        say(_reason(error))
        return 1
    try:
        if arguments == ["--list"]:
            print(json.dumps(_devices(sounddevice) + _server_sources()))
        else:
            _record(sounddevice, arguments[0] if arguments else "", say)
    except BrokenPipeError:
        pass
    except (CaptureError, sounddevice.PortAudioError) as error:
        say(_reason(error))
        return 1
    return 0


def _record(sounddevice: Any, wanted: str, say: Callable[[str], None]) -> None:
    """Write what the device gives, for as long as it gives and someone reads."""
    # Our reader keeps stdin open: once that ends, so do we, even within a read that hangs.
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    device, source = _find(wanted, _devices(sounddevice))
    if source:
        os.environ["PULSE_SOURCE"] = source
    rate_hz = device["rate_hz"]
    channels = device["channels"] if device["channels"] <= _MOST_CHANNELS else 1
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
    say(OPENED + (source or device["name"]))
    follows = not source and (not wanted or device["name"] in _SERVER_DEVICES)
    watching = (device["name"], source, follows, say)
    threading.Thread(target=_watch, args=watching, daemon=True).start()
    sys.stdout.buffer.write(HEADER.pack(rate_hz, channels))
    while True:
        try:
            # The overflow flag is no use: sound is lost without it. Our reader goes by the clock.
            block, _ = stream.read(round(_BLOCK_SECONDS * rate_hz))
        except sounddevice.PortAudioError as error:
            raise CaptureError(f"the capture broke off: {_reason(error)}") from error
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


def _devices(sounddevice: Any) -> list[dict[str, Any]]:
    """PortAudio's inputs, those of its default host first."""
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


def _find(wanted: str, devices: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return the device to open and, if it is one of the sound server's, its name there."""
    if not devices:
        raise CaptureError("there is no sound device to capture from, and no sound server")
    if not wanted:
        return next((device for device in devices if device["is_default"]), devices[0]), ""
    if wanted.isdecimal():
        for device in devices:
            if device["index"] == int(wanted):
                return device, ""
        raise CaptureError(f"there is no sound device {wanted} to capture from")
    names = list(dict.fromkeys(device["name"] for device in devices))
    if name := match(wanted, names):
        return next(device for device in devices if device["name"] == name), ""
    ways = [device for device in devices if device["name"] in _SERVER_DEVICES]
    if ways and (source := match(wanted, [source["name"] for source in _server_sources()])):
        return ways[0], source
    raise CaptureError(f"there is no sound device {wanted!r}")


def match(wanted: str, names: list[str]) -> str | None:
    """Find the device that is meant.

    Args:
        wanted: a name in whole, or less the number of its card, or in part; case does not matter.
        names: of all there are.

    Returns:
        Its whole name, or None.

    Raises:
        CaptureError: if several may be meant.
    """
    wanted = wanted.casefold()
    for fits in (
        lambda name: name == wanted,
        lambda name: _CARD.sub("", name) == _CARD.sub("", wanted),
        # What is being played may sound like a microphone's name, and is none.
        lambda name: wanted in name and not name.endswith(".monitor"),
    ):
        found = [name for name in names if fits(name.casefold())]
        if len(found) > 1:
            raise CaptureError(f"{wanted!r} may be {' or '.join(found)}; give the whole name")
        if found:
            return found[0]
    return None


def _server_sources() -> list[dict[str, Any]]:
    """The sound server's own devices, which PortAudio does not list."""
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


def _watch(device_name: str, source: str, follows: bool, say: Callable[[str], None]) -> None:
    """Say what is captured. When a sound server puts another source in its place, end, or follow.

    A server does that without a word when a source vanishes; nothing in the samples shows it.
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
        say(CAPTURING + device_name)
        return
    now = _server_source()
    say(CAPTURING + (now or device_name))
    if not now:
        changes.kill()
        return
    source = source or now
    for line in changes.stdout or ():
        if b" on source-output " in line:
            now = _server_source()
        if now and now != source:
            if not follows:
                say(f"{source} is gone, and the sound server gives {now} in its place")
                os._exit(1)
            source = now
            say(CAPTURING + source)


def _server_source() -> str | None:
    """The name of the sound server's source that this process captures from, if any."""
    mine = f'application.process.id = "{os.getpid()}"'
    for output in _pactl("list", "source-outputs").split("Source Output #"):
        index = re.search(r"^\s*Source: (\d+)$", output, re.M)
        if index and mine in output:
            sources = _pactl("list", "short", "sources")
            name = re.search(rf"^{index[1]}\t(\S+)", sources, re.M)
            return name and name[1]
    return None


def _pactl(*arguments: str) -> str:
    """What the sound server answers; nothing where there is none, or it hangs."""
    try:
        return subprocess.run(
            ["pactl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
            timeout=_SERVER_PATIENCE_SECONDS,
            text=True,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _own_stderr() -> Callable[[str], None]:
    """Keep stderr for our words: ALSA and PortAudio talk there too, at length and about nothing."""
    words = os.fdopen(os.dup(2), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)

    def say(text: str) -> None:
        print(" ".join(text.split()), file=words)

    return say


def _end_with_stdin() -> None:
    """End when nobody holds stdin any more, whatever another thread hangs in."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():  # As our reader starts us: end what we started, too.
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def _reason(error: Exception) -> str:
    """PortAudio's words, and those of the system below it."""
    if isinstance(error, CaptureError) or not error.args:
        return str(error)
    words, *_, host = *error.args, None
    return f"{words} ({host[2]})" if isinstance(host, tuple) and host[2] else str(words)


if __name__ == "__main__":
    exit_status = main(sys.argv[1:])
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    # PortAudio's own end may hang with the sound server.
    os._exit(exit_status)
