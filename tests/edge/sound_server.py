"""A real sound server whose null sinks act as microphones that capture what is played into them.

PulseAudio runs with its own home and socket and does not touch the machine's sound.
"""

import ctypes.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

_PATIENCE_SECONDS = 10
# PortAudio's default device and the device `pulse` both lead to the server.
_ALSA_CONFIGURATION = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.pulse { type pulse }
# A user-defined ALSA device: the second sink's monitor.
pcm.bedroom { type pulse device "other.monitor" }
"""


@cache
def missing_programs() -> str | None:
    """The reason why tests with a sound server cannot run here, or None."""
    for program in ("pulseaudio", "pactl", "paplay"):
        if shutil.which(program) is None:
            return f"needs {program} (apt-get install pulseaudio pulseaudio-utils)"
    if ctypes.util.find_library("portaudio") is None:
        return "needs PortAudio (apt-get install libportaudio2)"
    plugin = "alsa-lib/libasound_module_pcm_pulse.so"
    if not any((*Path("/usr/lib").glob(plugin), *Path("/usr/lib").glob(f"*/{plugin}"))):
        return "needs ALSA's PulseAudio plugin (apt-get install libasound2-plugins)"
    return None


class SoundServer:
    """A PulseAudio server that can be started, killed, stopped and resumed.

    Args:
        sinks: names of the null sinks; the monitor of the first is the default source.
        rate_hz: sample rate of the sinks, which are mono.

    Attributes:
        environment: variables that make a process use this server.
    """

    def __init__(self, sinks: tuple[str, ...] = ("vmic",), rate_hz: int = 44_100) -> None:
        self.sinks = sinks
        self.rate_hz = rate_hz
        self._directory = Path(tempfile.mkdtemp(prefix="sound-"))
        self._socket = self._directory / "native"
        (self._directory / ".asoundrc").write_text(_ALSA_CONFIGURATION)
        self.environment = {
            "HOME": str(self._directory),
            "XDG_RUNTIME_DIR": str(self._directory),
            "PULSE_RUNTIME_PATH": str(self._directory),
            "PULSE_SERVER": f"unix:{self._socket}",
        }
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and its sinks; return when it responds."""
        self._socket.unlink(missing_ok=True)
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        command += ["-L", f"module-native-protocol-unix auth-anonymous=1 socket={self._socket}"]
        self._server = self._spawn(command)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._socket.exists():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pulseaudio did not start. Its status: {self._server.poll()}.")
            time.sleep(0.01)
        for sink in self.sinks:
            self.add_sink(sink)
        self.set_default(self.sinks[0])

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        if self._server:
            self._server.kill()
            self._server.wait()

    def stop(self) -> None:
        """Hang the server (SIGSTOP)."""
        self._server.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Resume a hung server (SIGCONT)."""
        self._server.send_signal(signal.SIGCONT)

    def add_sink(self, sink: str) -> None:
        """Plug in a microphone: a null sink."""
        self.control(
            "load-module",
            "module-null-sink",
            f"sink_name={sink}",
            f"rate={self.rate_hz}",
            "channels=1",
            "format=s16le",
            # Otherwise the sink renders 2 s ahead, and delays every change until then.
            "norewinds=1",
        )

    def remove_sink(self, sink: str) -> None:
        """Unplug a microphone; the server moves its recorders to another one, if there is one."""
        for line in self.control("list", "short", "modules").splitlines():
            index, name, *arguments = line.split()
            if name == "module-null-sink" and f"sink_name={sink}" in arguments:
                self.control("unload-module", index)

    def set_default(self, sink: str) -> None:
        """Make the sink's monitor the default source."""
        self.control("set-default-source", f"{sink}.monitor")

    def play(self, wav: str | os.PathLike[str], sink: str | None = None) -> subprocess.Popen[bytes]:
        """Play a WAV file into a sink, by default the first; `wait` on the result for its end.

        Playback starts within about 0.1 s.
        """
        return self._spawn(["paplay", f"--device={sink or self.sinks[0]}", os.fspath(wav)])

    def control(self, *arguments: str) -> str:
        """Run `pactl` and return what it prints."""
        done = subprocess.run(
            ["pactl", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=True,
        )
        return done.stdout

    def close(self) -> None:
        """Kill all processes, even a hung server, and remove the files."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _spawn(
        self, command: list[str], stdin: Path = Path("/dev/null")
    ) -> subprocess.Popen[bytes]:
        with stdin.open("rb") as source, (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=source,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment | {"LC_ALL": "C"},
            )
