"""The edge stands alone: what it imports, how little it takes."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("keras", "tensorflow", "jax", "torch", "librosa", "scipy", "matplotlib")
LAZY = ("ai_edge_litert", "tflite_runtime", "soxr", "soundfile", "sounddevice")

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


def test_every_module_imports_with_numpy_alone():
    code = """
import importlib, pkgutil, edge
for module in pkgutil.iter_modules(edge.__path__):
    if module.name != "__main__":
        importlib.import_module(f"edge.{module.name}")
        print(module.name)
"""
    names = python(code, blocked=(*FORBIDDEN, *LAZY)).split()
    assert {"bundle", "cli", "frontend", "interpreter", "sources", "streaming"} <= set(names)


def test_a_file_streams_without_any_training_framework(tmp_path, bundle, make_sound):
    recording = tmp_path / "a.flac"
    soundfile.write(recording, make_sound(110_250), 44_100)
    code = "from edge.cli import main; sys.exit(main(sys.argv[1:]))"
    lines = python(code, "--file", recording, "--model", bundle, blocked=FORBIDDEN).splitlines()
    assert len(lines) == 3


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
print(peak)
"""
    lines = python(
        code, "--file", recording, "--model", log_mel_bundle, "--hop", 10, blocked=FORBIDDEN
    ).splitlines()
    assert len(lines) == 75
    assert int(lines[-2].split()[1]) < 150_000
