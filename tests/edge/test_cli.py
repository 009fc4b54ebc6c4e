"""`semanticac-edge` end to end, as a process."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
LINE = re.compile(r" *\d+\.\d\d - +\d+\.\d\d s(  \S.* \d\.\d\d){2}")


def command(*arguments):
    return [sys.executable, "-m", "edge", *map(str, arguments)]


def environment(model=None):
    variables = {k: v for k, v in os.environ.items() if k != "SEMANTICAC_MODEL"}
    variables |= {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return variables | ({"SEMANTICAC_MODEL": str(model)} if model else {})


def run(*arguments, model=None, stdin=None, cwd=None):
    """Exit status, lines of stdout, lines of stderr without LiteRT's own."""
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
def recording(tmp_path, make_sound):
    """3.5 s, stereo, 44.1 kHz."""
    path = tmp_path / "recording.wav"
    sound = np.stack([make_sound(154_350, seed) for seed in (0, 1)], axis=1)
    soundfile.write(path, sound, 44_100)
    return path


def test_file_to_text(bundle, recording):
    status, lines, errors = run("--file", recording, "--model", bundle, "--top", 2)
    assert (status, errors) == (0, [])
    assert [line[:19] for line in lines] == [
        "   0.00 -    1.00 s",
        "   1.00 -    2.00 s",
        "   2.00 -    3.00 s",
        "   2.50 -    3.50 s",
    ]
    assert all(LINE.fullmatch(line) for line in lines)


def test_file_to_json_lines_with_the_model_from_the_environment(bundle, recording, tmp_path):
    status, lines, errors = run(
        "--file", recording, "--json", "--hop", 0.5, "--threads", 2, model=bundle, cwd=tmp_path
    )
    assert (status, errors) == (0, [])
    windows = [json.loads(line) for line in lines]
    assert [window["start_seconds"] for window in windows] == [0, 0.5, 1, 1.5, 2, 2.5]
    for window in windows:
        assert len(window["top"]) == 3
        assert "Glocke ♪" in window["scores"]
        assert sum(window["scores"].values()) == pytest.approx(1, abs=1e-4)


def test_pipe_gives_what_the_file_gives(bundle, recording):
    samples, _ = soundfile.read(recording, dtype="float32")
    pcm = ["--stdin", "--rate", 44_100, "--channels", 2, "--format", "f32le"]
    piped = run(*pcm, "--json", model=bundle, stdin=samples.astype("<f4").tobytes() + b"xyz")
    from_file = run("--file", recording, "--json", model=bundle)
    assert piped[0] == from_file[0] == 0
    assert len(piped[1]) == len(from_file[1]) == 4
    for line, reference in zip(piped[1], from_file[1], strict=True):
        scores, expected = json.loads(line)["scores"], json.loads(reference)["scores"]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_truncated_recording_is_classified_to_its_end(bundle, recording):
    recording.write_bytes(recording.read_bytes()[: 44 + 4 * 110_250])  # 2.5 s
    status, lines, errors = run("--file", recording, model=bundle)
    assert status == 1
    assert [line[:7] for line in lines] == ["   0.00", "   1.00", "   1.50"]
    (error,) = errors
    assert error.startswith(f"semanticac-edge: error: {recording} is cut short: its header")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file", "missing.wav", "--model", "{bundle}"], "No audio file at missing.wav."),
        (["--file", "{bundle}", "--model", "{bundle}"], "cannot be read as audio: Format not"),
        (["--file", "missing.wav", "--model", "missing.tflite"], "No model at missing.tflite."),
        (["--file", "{bundle}", "--model", __file__], "is not a whole semanticac bundle"),
    ],
)
def test_errors_are_one_line_and_status_1(bundle, arguments, message):
    status, lines, errors = run(*(argument.format(bundle=bundle) for argument in arguments))
    assert (status, lines) == (1, [])
    (error,) = errors
    assert error.startswith("semanticac-edge: error: ")
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --file --stdin is required"),
        (["--file", "a.wav"], "give the bundle with --model, or its path in SEMANTICAC_MODEL"),
        (["--file", "a.wav", "--stdin"], "not allowed with"),
        (["--stdin", "--model", "m"], "--stdin needs --rate"),
        (["--file", "a.wav", "--model", "m", "--rate", "8000"], "--rate goes with --stdin"),
        (["--file", "a.wav", "--model", "m", "--channels", "1"], "--channels goes with --stdin"),
        (["--file", "a.wav", "--model", "m", "--hop", "0"], "must be a positive number, not 0"),
        (["--file", "a.wav", "--model", "m", "--hop", "nan"], "must be a positive number, not nan"),
        (["--file", "a.wav", "--model", "m", "--hop", "soon"], "--hop"),
        (["--file", "a.wav", "--model", "m", "--top", "0"], "must be at least 1, not 0"),
        (["--file", "a.wav", "--model", "m", "--threads", "-1"], "--threads"),
        (["--stdin", "--rate", "8000", "--model", "m", "--format", "mp3"], "invalid choice"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(arguments, message):
    status, lines, errors = run(*arguments)
    assert (status, lines) == (2, [])
    (error,) = errors
    assert error.startswith("semanticac-edge: error: ")
    assert message in error


def test_version_and_help():
    status, (version,), errors = run("--version")
    assert (status, errors) == (0, [])
    assert version.startswith("semanticac-edge ")
    assert "--stdin" in "\n".join(run("--help")[1])


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes and signals")
def test_reader_that_leaves_ends_it_quietly(bundle, recording):
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
def test_full_disk_is_one_error(bundle, recording):
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


# A test run started in the background, as by nohup, hands its ignored SIGINT down.
INTERRUPTIBLE = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from edge.cli import main; sys.exit(main())",
]


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes and signals")
def test_interrupt_gives_the_last_window_first(bundle, make_sound):
    process = subprocess.Popen(
        # The read that completes the first window holds samples beyond it at this rate.
        [*INTERRUPTIBLE, "--stdin", "--rate", "44100", "--format", "f32le"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(bundle),
    )
    with process:
        process.stdin.write(make_sound(66_150).tobytes())
        process.stdin.flush()
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert first.startswith(b"   0.00 -    1.00 s")
    assert rest.count(b"\n") == 1
    assert re.sub(b"INFO.*\n", b"", errors) == b""
