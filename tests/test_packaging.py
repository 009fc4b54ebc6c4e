"""Contents and metadata of the wheel and the source archive."""

import ast
import email
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("edge", "semanticac_keras", "training")
BENCH = "training/bench"


def tracked(*folders):
    """Files tracked by git, except those deleted from the working tree."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a checkout and git")
    command = ["git", "-C", ROOT, "ls-files", "-z", "--", *folders]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """Paths of the source archive of the tracked files and of the wheel built from it."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", target, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (sdist,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_wheel_contains_only_the_packages_without_benchmarks(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == tracked(*PACKAGES) - tracked(BENCH)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


@pytest.mark.slow
def test_modules_of_the_wheel_import_without_benchmarks(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        sources = {
            name: wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".py")
        }
    modules = {module_name(name) for name in sources}
    assert "training.fit" in modules
    assert not [name for name in modules if name.startswith("training.bench")]
    missing = {
        (name, imported)
        for name, source in sources.items()
        for imported in imported_modules(source)
        if imported.split(".")[0] in PACKAGES and imported not in modules
    }
    assert not missing
    # Nor may any module start a benchmark as a child process.
    assert not [name for name, source in sources.items() if '"training.bench' in source]


def module_name(file):
    """Dotted module name of a path in the wheel."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported_modules(source):
    """Yield the module named by each import statement, including those inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            if node.module == "training":
                yield from (f"training.{alias.name}" for alias in node.names)


@pytest.mark.slow
def test_source_archive_contains_only_tracked_files(archives):
    with tarfile.open(archives[0]) as archive:
        files = [member.name for member in archive.getmembers() if member.isfile()]
    names = {name.partition("/")[2] for name in files}
    generated = {name for name in names if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    assert names - generated <= tracked()
    assert {"LICENSE", "CHANGELOG.md", "SECURITY.md", "tests/conftest.py"} <= names
    assert tracked(BENCH) <= names


@pytest.mark.slow
def test_wheel_metadata_names_version_licence_and_command(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        licence = wheel.read(f"{info}/licenses/LICENSE").decode()
        entries = wheel.read(f"{info}/entry_points.txt").decode()
    assert info == f"semanticac_keras-{PROJECT['version']}.dist-info"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "semanticac-edge = edge.cli:main" in entries


def test_classifiers_list_exactly_the_supported_pythons():
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    prefix = "Programming Language :: Python :: "
    named = {line.removeprefix(prefix) for line in PROJECT["classifiers"] if prefix in line}
    assert named == {"3 :: Only", *(f"3.{minor}" for minor in range(int(low), int(high)))}


def test_changelog_starts_with_the_current_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[([\d.]+)\]", changelog, re.MULTILINE)[1] == PROJECT["version"]
