"""`semanticac-edge` end to end: in this process, or as its own where pipes and signals matter."""

import json
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.cli import main

try:
    import fcntl
    import pty
    import termios
except ImportError:  # Not on Unix; the tests that need them are skipped.
    pass

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX pipes, signals and terminals")

ROOT = Path(__file__).parents[2]
# At this threshold the tiny model detects events in any sound.
EAGER = ("--threshold", 0.05, "--refractory", 0, "--smoothing", 0)
LINE = re.compile(r" *\d+\.\d\d - +\d+\.\d\d s(  \S.* \d\.\d\d){2}")


def command(*arguments):
    return [sys.executable, "-m", "edge", *map(str, arguments)]


def environment(model=None):
    variables = {k: v for k, v in os.environ.items() if k != "SEMANTICAC_MODEL"}
    variables |= {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return variables | ({"SEMANTICAC_MODEL": str(model)} if model else {})


def run_process(*arguments, model=None, stdin=None, cwd=None):
    """Return exit status, lines of stdout, and lines of stderr without those of LiteRT."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        env=environment(model),
        cwd=cwd,
        timeout=60,
        check=False,
    )
    errors = done.stderr.decode().splitlines()
    errors = [line for line in errors if not line.startswith("INFO: Created TensorFlow Lite")]
    return done.returncode, done.stdout.decode().splitlines(), errors


@pytest.fixture
def run(capsys, monkeypatch):
    """`run(*arguments, model)`: like `run_process`, without a process."""

    def run(*arguments, model=None):
        monkeypatch.delenv("SEMANTICAC_MODEL", raising=False)
        if model:
            monkeypatch.setenv("SEMANTICAC_MODEL", str(model))
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as error:
            status = error.code
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.splitlines()

    return run


@pytest.fixture
def recording(tmp_path, make_sound):
    """A stereo WAV file of 3.5 s at 44.1 kHz."""
    path = tmp_path / "recording.wav"
    sound = np.stack([make_sound(154_350, seed) for seed in (0, 1)], axis=1)
    soundfile.write(path, sound, 44_100)
    return path


def of_type(kind, lines):
    """Parse the JSON lines of one type."""
    return [item for item in map(json.loads, lines) if item["type"] == kind]


def test_file_to_text(bundle, recording):
    status, lines, errors = run_process("--file", recording, "--model", bundle, "--top", 2)
    assert (status, errors) == (0, [])
    windows = [line for line in lines if LINE.fullmatch(line)]
    assert [line[:19] for line in windows] == [
        "   0.00 -    1.00 s",
        "   1.00 -    2.00 s",
        "   2.00 -    3.00 s",
        "   2.50 -    3.50 s",
    ]
    assert all(re.search(" s  [<>] ", line) for line in lines if line not in windows)


def test_file_to_json_lines_with_the_model_from_the_environment(
    run, bundle, recording, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, lines, errors = run(
        *("--file", recording, "--json", "--hop", 0.5, "--threads", 2, *EAGER), model=bundle
    )
    assert (status, errors) == (0, [])
    windows = of_type("window", lines)
    assert [window["start_seconds"] for window in windows] == [0, 0.5, 1, 1.5, 2, 2.5]
    for window in windows:
        assert len(window["top"]) == 3
        assert "Glocke ♪" in window["scores"]
        assert sum(window["scores"].values()) == pytest.approx(1, abs=1e-4)
    events = of_type("event", lines)
    assert events
    assert ids(events, "started") == ids(events, "ended")
    assert len(windows) + len(events) == len(lines)


def ids(events, state):
    """Return the sorted ids of the events in a state."""
    return sorted(event["id"] for event in events if event["state"] == state)


def test_pipe_and_file_give_the_same_results(run, bundle, recording):
    samples, _ = soundfile.read(recording, dtype="float32")
    pcm = ["--stdin", "--rate", 44_100, "--channels", 2, "--format", "f32le"]
    stdin = samples.astype("<f4").tobytes() + b"xyz"
    piped = run_process(*pcm, "--json", model=bundle, stdin=stdin)
    from_file = run("--file", recording, "--json", model=bundle)
    assert piped[0] == from_file[0] == 0
    windows, expected = of_type("window", piped[1]), of_type("window", from_file[1])
    assert len(windows) == len(expected) == 4
    for ours, reference in zip(windows, expected, strict=True):
        assert ours["scores"] == pytest.approx(reference["scores"], abs=1e-4)
    events = [
        [(event["state"], event["label"], event["start_seconds"]) for event in of_type("event", ls)]
        for ls in (piped[1], from_file[1])
    ]
    assert events[0] == events[1]


def test_configuration_file_and_flags_give_the_same_results(run, bundle, recording, tmp_path):
    config = tmp_path / "edge.toml"
    config.write_text(
        f"[source]\nfile = '{recording.name}'\n[model]\nmodel = '{bundle}'\nhop = 0.25\n"
        "[decisions]\nthreshold = 0.05\nrefractory = 0\nsmoothing = 0\n"
        "[outputs]\njson = true\ntop = 1\n"
    )
    from_file = run("--config", config)
    from_flags = run(
        *("--file", recording, "--model", bundle, "--hop", 0.25, "--json", "--top", 1, *EAGER)
    )
    assert from_file == from_flags
    assert from_file[0] == 0
    assert of_type("event", from_file[1])


def test_a_truncated_recording_is_classified_to_its_end(run, bundle, recording):
    recording.write_bytes(recording.read_bytes()[: 44 + 4 * 110_250])  # 2.5 s
    status, lines, errors = run("--file", recording, "--json", *EAGER, model=bundle)
    assert status == 1
    assert [window["start_seconds"] for window in of_type("window", lines)] == [0, 1, 1.5]
    events = of_type("event", lines)
    assert ids(events, "started") == ids(events, "ended")
    (error,) = errors
    assert error.startswith(f"semanticac-edge: error: {recording} is cut short: its header")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file", "missing.wav", "--model", "{bundle}"], "No audio file at missing.wav."),
        (["--file", "{bundle}", "--model", "{bundle}"], "cannot be read as audio: Format not"),
        (["--file", "missing.wav", "--model", "missing.tflite"], "No model at missing.tflite."),
        (["--file", "{bundle}", "--model", __file__], "is not a complete semanticac bundle"),
        (["--file", "{empty}", "--model", "{bundle}"], "There was no sound: file "),
        (
            ["--file", "{empty}", "--model", "{bundle}", "--hop", "2"],
            "--hop must be at most 1, the",
        ),
    ],
)
def test_errors_are_one_line_and_status_1(run, bundle, tmp_path, arguments, message):
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, [], 32_000)
    line = [argument.format(bundle=bundle, empty=empty) for argument in arguments]
    status, lines, errors = run(*line)
    assert (status, lines) == (1, [])
    (error,) = errors
    assert error.startswith("semanticac-edge: error: ")
    assert message in error


def test_events_alone_are_lines_beside_any_output(run, bundle, recording, tmp_path):
    for more in ([], ["--clips", tmp_path / "clips"]):
        status, lines, errors = run(
            *("--file", recording, "--model", bundle, "--events-only", *EAGER, *more)
        )
        assert (status, errors) == (0, [])
        assert lines
        assert all(re.search(" s  [<>] ", line) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a source: one of --mic, --device, --file, --stdin, --url"),
        (
            ["--file", "a.wav", "--stdin", "--rate", "8000"],
            "give one source, not --file and --stdin",
        ),
        (["--stdin", "--model", "m"], "--stdin needs --rate"),
        (["--stdin", "--model", "m", "--rate", "44"], "must be a whole number at least 1000"),
        (["--file", "a.wav", "--model", "m", "--rate", "8000"], "--rate goes with --stdin"),
        (["--file", "a.wav", "--model", "m", "--channels", "1"], "--channels goes with --stdin"),
        (["--file", "a.wav", "--model", "m", "--hop", "0"], "must be a number above 0"),
        (["--file", "a.wav", "--model", "m", "--hop", "nan"], "at most 1e+06, not nan"),
        (["--file", "a.wav", "--model", "m", "--hop", "soon"], "--hop"),
        (["--file", "a.wav", "--model", "m", "--top", "0"], "must be a whole number at least 1"),
        (["--file", "a.wav", "--model", "m", "--threads", "-1"], "--threads"),
        (["--stdin", "--rate", "8000", "--model", "m", "--format", "mp3"], "invalid choice"),
        (["--config", "none.toml"], "none.toml cannot be read: No such file or directory"),
        (["--mi", "--model", "m"], "unrecognized arguments: --mi"),
        (["listen"], "unrecognized arguments: listen"),
        (["check", "--model", "m"], "give a source"),
        (["tune", "--model", "m"], "the following arguments are required: --background"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(run, arguments, message):
    status, lines, errors = run(*arguments)
    assert (status, lines) == (2, [])
    (error,) = errors
    assert error.startswith("semanticac-edge: error: ")
    assert message in error


def test_version_and_help(run):
    status, (version,), errors = run("--version")
    assert (status, errors) == (0, [])
    assert version.startswith("semanticac-edge ")
    assert "--stdin" in "\n".join(run("--help")[1])


@posix
def test_a_closed_stdout_ends_the_listener_quietly(bundle, recording):
    process = subprocess.Popen(
        command("--file", recording, "--hop", 0.01),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(bundle),
    )
    with process:
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 0
    assert re.sub("INFO.*\n", "", errors) == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_error(bundle, recording):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("--file", recording),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(bundle),
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    errors = re.sub("INFO.*\n", "", done.stderr.decode())
    assert errors == "semanticac-edge: error: [Errno 28] No space left on device\n"


# A test run in the background, for example under nohup, passes its ignored SIGINT to children.
INTERRUPTIBLE = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from edge.cli import main; sys.exit(main())",
]


class Listening:
    """A listener process that reads samples from a pipe."""

    def __init__(self, model, *arguments, **options):
        line = [*INTERRUPTIBLE, "--stdin", "--rate", 32_000, "--format", "f32le", *arguments]
        self.process = subprocess.Popen(
            [*map(str, line), "--model", str(model)],
            **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options,
            env=environment(),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=60)

    def push(self, sound):
        """Write samples to the pipe."""
        self.process.stdin.write(sound.tobytes())
        self.process.stdin.flush()

    def lines_until(self, is_last):
        """Return the next lines, up to the first one that matches."""
        lines = []
        for line in self.process.stdout:
            lines.append(json.loads(line))
            if is_last(lines[-1]):
                return lines
        raise AssertionError(f"the listener ended: {self.process.stderr.read().decode()}")

    def message(self, text):
        """Wait for a line on stderr that contains the text."""
        for line in self.process.stderr:
            if text in line.decode():
                return line.decode()
        raise AssertionError("the listener ended")

    def end(self, *signals):
        """Send signals and wait; return exit status, remaining lines and messages."""
        for number in signals:
            self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=60)
        lines = [json.loads(line) for line in stdout.splitlines()]
        messages = re.sub("INFO.*\n", "", stderr.decode()).splitlines()
        return self.process.returncode, lines, messages


def is_start(item):
    return item["type"] == "event" and item["state"] == "started"


def is_window(item):
    return item["type"] == "window"


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_open_events(log_mel_bundle, make_sound, number, status):
    with Listening(log_mel_bundle, "--json", *EAGER) as listening:
        listening.push(make_sound(3 * 32_000 + 16_000))
        heard = listening.lines_until(is_start)
        returned, rest, messages = listening.end(number)
    assert (returned, messages) == (status, [])
    events = [item for item in heard + rest if item["type"] == "event"]
    assert ids(events, "started") == ids(events, "ended")
    assert events[-1]["end_reason"] == "stopped"


@posix
def test_an_interrupt_flushes_the_current_window(log_mel_bundle, make_sound):
    with Listening(log_mel_bundle, "--json") as listening:
        listening.push(make_sound(48_000))
        (first,) = listening.lines_until(is_window)
        status, rest, messages = listening.end(signal.SIGINT)
    assert (status, messages) == (130, [])
    assert 1.0 == first["end_seconds"] < rest[0]["end_seconds"] <= 1.5


@pytest.mark.skipif(not Path("/proc/self/wchan").exists(), reason="reads /proc")
def test_a_second_signal_kills(log_mel_bundle, make_sound, tmp_path):
    """While the listener blocks on a full pipe, the first signal has no effect."""
    (tmp_path / "sound").write_bytes(make_sound(32_000 * 20).tobytes())
    with (tmp_path / "sound").open("rb") as sound:
        listening = Listening(log_mel_bundle, "--json", "--hop", 0.01, stdin=sound)
    with listening:
        # The kernel function that the process waits in: a write to a full pipe.
        waits_for = Path(f"/proc/{listening.process.pid}/wchan")
        while not waits_for.read_text().endswith("pipe_write"):
            assert listening.process.poll() is None
            time.sleep(0.01)
        listening.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            listening.process.wait(0.2)
        listening.process.send_signal(signal.SIGTERM)
        assert listening.process.wait(30) == -signal.SIGTERM


@posix
@pytest.mark.parametrize("damage", ["truncated in place", "another file", "gone"])
def test_a_reload_of_a_bad_model_keeps_the_old_one(log_mel_bundle, make_sound, tmp_path, damage):
    path = tmp_path / "m.tflite"
    shutil.copy(log_mel_bundle, path)
    with Listening(path, "--json", *EAGER) as listening:
        listening.push(make_sound(32_000 + 1000))
        listening.lines_until(is_window)
        if damage == "gone":
            path.unlink()
        elif damage == "another file":
            path.write_bytes(b"no model" * 1000)
        else:
            os.truncate(path, 100)
        listening.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)  # The next chunk must arrive after the signal.
        listening.push(make_sound(64_000))
        message = listening.message("Not reloaded")
        listening.lines_until(is_window)
        status, _, messages = listening.end(signal.SIGTERM)
    assert (status, messages) == (0, [])
    assert "error: Not reloaded, the current model stays in use: " in message
    assert str(path) in message


@posix
def test_a_reload_updates_the_decisions(log_mel_bundle, make_sound, tmp_path):
    config = tmp_path / "edge.toml"
    config.write_text("[decisions]\nthreshold = 0.05\nrefractory = 0\n")
    with Listening(log_mel_bundle, "--json", "--config", config) as listening:
        listening.push(make_sound(3 * 32_000))
        before = listening.lines_until(is_start)
        config.write_text("[decisions]\nthreshold = 1.0\nrefractory = 0\n[outputs]\ntop = 1\n")
        listening.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
        listening.push(make_sound(5 * 32_000))
        listening.message("Changes of source and outputs take effect after a restart.")
        listening.message("Reloaded model.tflite.")
        config.write_text("[decisions]\nthreshold = 2\n")
        listening.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
        listening.push(make_sound(32_000))
        assert f"{config}: [decisions] threshold must be" in listening.message("Not reloaded")
        status, after, _ = listening.end(signal.SIGTERM)
    assert status == 0
    events = [item for item in before + after if item["type"] == "event"]
    assert ids(events, "started") == ids(events, "ended")
    assert {e["end_reason"] for e in events[-1:]} == {"stopped"}
    assert not any(is_start(item) for item in after)
    assert sum(is_window(item) for item in after) >= 4


@posix
@pytest.mark.slow
def test_a_terminal_shows_the_live_view_until_it_closes(log_mel_bundle):
    """The view shows that the microphone is missing, and the listener waits for it."""
    terminal, theirs = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [*INTERRUPTIBLE, "--device", "no such microphone", "--model", str(log_mel_bundle)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment() | {"TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        read_until(terminal, "no such microphone")
        # While the terminal is open, SIGHUP reloads, as in a service.
        process.send_signal(signal.SIGHUP)
        read_until(terminal, "Reloaded model.tflite.")
        assert process.poll() is None
    finally:
        os.close(terminal)
    assert process.wait(30) == 0


def read_until(terminal, text):
    """Read from the terminal until a text appears."""
    shown = b""
    while text not in shown.decode(errors="replace"):
        ready, _, _ = select.select([terminal], [], [], 30)
        assert ready, shown.decode(errors="replace")
        shown += os.read(terminal, 65_536)
    return shown


def test_devices_are_listed(run):
    status, lines, errors = run("--list-devices")
    if status:
        assert "sound devices cannot be listed" in errors[0]
    else:
        assert lines[0].split() == ["index", "name", "host", "channels", "rate"]
