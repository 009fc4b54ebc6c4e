"""Import rules: rooms import downwards only, and `edge` needs no training framework."""

import ast
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
# Packages that modules of `edge.web` may import eagerly: these modules load only for --serve.
WEB = ("starlette", "uvicorn", "prometheus_client")

# The rooms, from the top floor down: a module may import from its own room and from those below.
# A package's `__init__` belongs to its room; `edge` itself only re-exports names.
FLOORS = (
    ("training.ablate",),
    ("training.crossval",),
    (
        *("training.export", "training.fit", "training.inspect", "training.pretrain"),
        *("training.probe", "training.reproduce", "training.weights", "training.zeroshot"),
    ),
    ("training.report",),
    ("training.bench",),
    ("training.release",),
    ("training.pretraining",),
    ("training.learning",),
    ("training.runs",),
    ("training.corpus",),
    ("training.inspection",),
    ("training.datasets",),
    ("semanticac_keras",),
    ("edge.__main__", "edge.cli"),
    ("edge.commands",),
    ("edge.config",),
    ("edge.listener",),
    ("edge.web",),
    ("edge.sinks",),
    ("edge.sources",),
    ("edge.health",),
    ("edge.events",),
    ("edge.inference",),
    ("edge.files", "edge.release", "edge.sd_notify", "edge.signals", "edge.types"),
)

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


def modules():
    """Yield the name and the file of every module in the three packages."""
    for package in ("edge", "semanticac_keras", "training"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(path, known):
    """Yield the known modules that a file imports, at any level of nesting."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else node.module


def floor_of(module):
    """Return the module's floor, counted from the top; None for a package's own `__init__`."""
    for number, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return number
    assert module in ("edge", "training"), f"{module} has no room: add one to FLOORS"
    return None


def test_rooms_import_downwards_only():
    known = dict(modules())
    upwards = [
        f"{importer} imports {imported}"
        for importer, path in known.items()
        for imported in imports_of(path, known)
        if (above := floor_of(importer)) is not None
        and (below := floor_of(imported)) is not None
        and above > below
    ]
    assert not upwards
    # `edge` re-exports names of its rooms, so they must not import it.
    within = [name for name, path in known.items() if "edge" in imports_of(path, known)]
    assert not [name for name in within if name.startswith("edge.")]


def count_windows(lines):
    return sum("scores" in json.loads(line) for line in lines.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize(("where", "blocked"), [("", WEB), ("edge.web.", ())])
def test_every_module_imports_with_numpy_alone(where, blocked):
    """Modules of `edge.web` may also import that extra's packages."""
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


@pytest.mark.slow
def test_streaming_a_file_needs_no_training_framework(tmp_path, bundle, make_sound):
    recording = tmp_path / "a.flac"
    soundfile.write(recording, make_sound(110_250), 44_100)
    code = "from edge.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("--file", recording, "--model", bundle, "--json")
    assert count_windows(python(code, *arguments, blocked=FORBIDDEN)) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_long_file_needs_less_than_150_megabytes(tmp_path, log_mel_bundle, make_sound):
    """Loading these 12 minutes as float32 would take another 127 MB."""
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
    arguments = ("--file", recording, "--model", log_mel_bundle, "--hop", 1, "--json")
    *lines, peak = python(code, *arguments, blocked=FORBIDDEN).splitlines(keepends=True)
    assert count_windows("".join(lines)) == 12 * 60
    assert int(peak.split()[1]) < 150_000
