"""Sounds, packages, repositories and manifests for the tests of the corpus."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 32_000


def bursts(seed: int, seconds: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Coloured noise whose colour and loudness change four times a second."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in np.arange(0, seconds, 0.25):
        noise = rng.standard_normal(rate_hz // 4)
        parts.append(rng.uniform(0.02, 0.2) * np.convolve(noise, rng.standard_normal(8), "same"))
    return np.concatenate(parts)[: round(seconds * rate_hz)].clip(-1, 1).astype(np.float32)


def write(path: Path, waveform: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    """Write a sound file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate_hz)
    return path


def write_deb(path: Path, files: dict[str, bytes], compression: str = "xz") -> Path:
    """Write a Debian package with only what the corpus reads: `ar` with a `data.tar`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", f"data.tar.{compression}": data.getvalue()}
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            fields = f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
            file.write(fields.encode() + content + b"\n" * (len(content) % 2))
    return path


def write_repository(path: Path, files: dict[str, bytes]) -> str:
    """Write a git repository and return its commit; skip the test where git is missing."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for arguments in (
        ("init", "-q"),
        ("config", "uploadpack.allowAnySHA1InWant", "true"),
        ("config", "uploadpack.allowFilter", "true"),
        ("add", "-A"),
        (*author, "commit", "-qm", "Add sounds"),
    ):
        subprocess.run(["git", "-C", path, *arguments], check=True, capture_output=True)
    command = ["git", "-C", path, "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ogg(waveform: np.ndarray) -> bytes:
    """Return a waveform as the content of an Ogg Vorbis file."""
    content = io.BytesIO()
    soundfile.write(content, waveform, RATE_HZ, format="OGG")
    return content.getvalue()


def manifest(path: Path, *entries: dict[str, object]) -> Path:
    """Write a manifest."""

    def toml(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
        return repr(value).replace("'", '"')

    blocks = [
        "[[source]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in entry.items())
        for entry in entries
    ]
    path.write_text("\n".join(blocks))
    return path


def folder_entry(folder: Path, **changes: object) -> dict[str, object]:
    """Return the entry of a folder whose licence lets weights ship."""
    entry = {"name": folder.name, "fetch": "folder", "folder": str(folder), "licence": "CC0"}
    return {**entry, "may_ship": True, **changes}
