"""The edge stands alone: what it imports, how little it takes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("keras", "tensorflow", "jax", "torch", "librosa", "scipy", "matplotlib")
LAZY = ("ai_edge_litert", "tflite_runtime", "soxr", "soundfile", "sounddevice", "paho", "rich")
# What the modules of `edge.web` may import at once: they are imported only to serve.
WEB = ("starlette", "uvicorn", "prometheus_client")

BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise AssertionError(f"edge imported {{name}}")

sys.meta_path.insert(0, Block())
sys.path.insert(0, {root!r})
"""


def python(code, *arguments, blocked):
    """Run `code` where the blocked modules raise on import; return its stdout."""
    code = BLOCK.format(blocked=blocked, root=str(ROOT)) + code
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def count_windows(lines):
    return sum("scores" in json.loads(line) for line in lines.splitlines())


@pytest.mark.parametrize(("where", "blocked"), [("", WEB), ("edge.web.", ())])
def test_every_module_imports_with_numpy_alone(where, blocked):
    """Those of `edge.web` with its own packages, too."""
    if where and not all(importlib.util.find_spec(name) for name in WEB):
        pytest.skip("the extra `web` is not installed")
    code = """
import importlib, pkgutil, edge
for module in pkgutil.walk_packages(edge.__path__, "edge."):
    if module.name.startswith("edge.web.") == bool(sys.argv[1]) and module.name != "edge.__main__":
        importlib.import_module(module.name)
        print(module.name)
"""
    names = python(code, where, blocked=(*FORBIDDEN, *LAZY, *blocked)).split()
    expected = (
        {"edge.web.app"} if where else {"edge.cli", "edge.sources.base", "edge.inference.streaming"}
    )
    assert expected <= set(names)


def test_a_file_streams_without_any_training_framework(tmp_path, bundle, make_sound):
    recording = tmp_path / "a.flac"
    soundfile.write(recording, make_sound(110_250), 44_100)
    code = "from edge.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("--file", recording, "--model", bundle, "--json")
    assert count_windows(python(code, *arguments, blocked=FORBIDDEN)) == 3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_long_file_fits_150_megabytes(tmp_path, log_mel_bundle, make_sound):
    """12 minutes; as float32 at once they would take 127 MB on top."""
    recording = tmp_path / "long.wav"
    with soundfile.SoundFile(recording, "w", 44_100, 1) as file:
        minute = make_sound(44_100 * 60)
        for _ in range(12):
            file.write(minute)
    code = """
from edge.cli import main
assert main(sys.argv[1:]) == 0
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak.strip())
"""
    arguments = ("--file", recording, "--model", log_mel_bundle, "--hop", 10, "--json")
    *lines, peak = python(code, *arguments, blocked=FORBIDDEN).splitlines(keepends=True)
    assert count_windows("".join(lines)) == 73
    assert int(peak.split()[1]) < 150_000
