"""What is in a wheel and in a source archive, and what they say of themselves."""

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


def tracked(*folders):
    """The repository's files, without those that were deleted and not committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a checkout and git")
    command = ["git", "-C", ROOT, "ls-files", "-z", "--", *folders]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A source archive of the tracked files, and the wheel built from it: (sdist, wheel)."""
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


def test_the_wheel_holds_the_packages_and_nothing_else(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == tracked(*PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_source_archive_holds_no_strangers(archives):
    with tarfile.open(archives[0]) as archive:
        files = [member.name for member in archive.getmembers() if member.isfile()]
    names = {name.partition("/")[2] for name in files}
    made = {name for name in names if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    assert names - made <= tracked()
    assert {"LICENSE", "CHANGELOG.md", "SECURITY.md", "tests/conftest.py"} <= names


def test_the_wheel_says_what_it_is(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        licence = wheel.read(f"{info}/licenses/LICENSE").decode()
        entries = wheel.read(f"{info}/entry_points.txt").decode()
    assert info == f"semanticac_keras-{PROJECT['version']}.dist-info"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "semanticac-edge = edge.cli:main" in entries


def test_classifiers_name_the_pythons_that_are_let_in():
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    prefix = "Programming Language :: Python :: "
    named = {line.removeprefix(prefix) for line in PROJECT["classifiers"] if prefix in line}
    assert named == {"3 :: Only", *(f"3.{minor}" for minor in range(int(low), int(high)))}


def test_the_changelog_has_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[([\d.]+)\]", changelog, re.MULTILINE)[1] == PROJECT["version"]
