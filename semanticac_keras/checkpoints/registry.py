"""Registry of published checkpoints, and their download into the user's cache."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semanticac_keras.checkpoints.files import open_checkpoint
from semanticac_keras.checkpoints.stored import CheckpointError
from semanticac_keras.download import DownloadError, cache_dir, download, file_sha256


@dataclass(frozen=True)
class Entry:
    """Published checkpoint.

    Args:
        tower: encoder that it is for.
        file_name: file name in the cache.
        page: web page of the checkpoint.
        url: download address; None if it must be downloaded by hand.
        sha256: published hexadecimal digest, or None.
        licence: licence of the weights, as stated by the publisher.
        note: remarks for the user.
    """

    tower: Literal["audio", "text"]
    file_name: str
    page: str
    url: str | None
    sha256: str | None
    licence: str
    note: str

    @property
    def path(self) -> Path:
        """Path in the cache, whether or not the file exists."""
        return cache_dir() / "checkpoints" / self.file_name


_CLAP_REVISION = "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a"
_RN50_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"

REGISTRY: dict[str, Entry] = {
    "htsat-audioset": Entry(
        tower="audio",
        file_name="htsat-audioset.ckpt",
        page="https://drive.google.com/file/d/1OK8a5XuMVLyeVKF117L8pfxeZYdfSDZv",
        # Google Drive shows programs a confirmation page.
        url=None,
        sha256=None,
        licence="MIT (code; none stated for the weights)",
        note="HTS-AT trained on AudioSet, the paper's initial weights; 32 kHz",
    ),
    "clap-htsat-unfused": Entry(
        tower="audio",
        file_name="clap-htsat-unfused.safetensors",
        page="https://huggingface.co/laion/clap-htsat-unfused",
        url=(
            "https://huggingface.co/laion/clap-htsat-unfused/resolve/"
            f"{_CLAP_REVISION}/model.safetensors"
        ),
        sha256=None,
        licence="Apache-2.0",
        note="LAION-CLAP's HTS-AT; 48 kHz and a hop of 480, not the paper's front end",
    ),
    "clip-rn50": Entry(
        tower="text",
        file_name="clip-rn50.pt",
        page="https://github.com/openai/CLIP",
        url=f"https://openaipublic.azureedge.net/clip/models/{_RN50_SHA256}/RN50.pt",
        sha256=_RN50_SHA256,
        licence="MIT",
        note="CLIP RN50; the paper's figures point to its text tower",
    ),
}


def resolve(source: str | Path) -> Path:
    """Find the file of a source, and download it if it is a registered name.

    Args:
        source: path, or a key of `REGISTRY`.

    Raises:
        CheckpointError: if the source is neither, or the download fails.
    """
    if isinstance(source, str) and source in REGISTRY:
        return fetch(source)
    path = Path(source).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"source must be a file or one of {', '.join(REGISTRY)}. Received: {source}"
        )
    return path


def fetch(name: str, progress: bool = True) -> Path:
    """Download a registered checkpoint into the cache, unless it is there, and verify it.

    If no digest is published, the first file is trusted with a warning. Its digest is stored next
    to it and required from then on.

    Args:
        name: key of `REGISTRY`.
        progress: whether to show a progress bar on stderr.

    Returns:
        Path of the file in the cache.

    Raises:
        CheckpointError: if the name is unknown, the file must be fetched by hand, the download
            fails, or the digest differs.
    """
    if name not in REGISTRY:
        raise CheckpointError(f"name must be one of {', '.join(REGISTRY)}. Received: {name!r}")
    entry = REGISTRY[name]
    pin = entry.path.with_name(f"{entry.file_name}.sha256")
    expected = entry.sha256 or (pin.read_text().strip() if pin.is_file() else None)
    if entry.url is None:
        digest = _by_hand(name, entry, expected)
    else:
        try:
            digest = download(entry.url, entry.path, sha256=expected, progress=progress)
        except DownloadError as error:
            raise CheckpointError(f"{name} cannot be fetched: {error}") from error
    if expected is None:
        with open_checkpoint(entry.path):  # never trust a web page or a partial file
            pass
        pin.write_text(f"{digest}\n")
        warnings.warn(
            f"no digest of {name} is published: {entry.path} is trusted without verification. "
            f"Its SHA-256 {digest} is stored in {pin.name} and required from now on.",
            stacklevel=2,
        )
    return entry.path


def _by_hand(name: str, entry: Entry, expected: str | None) -> str:
    """Return the digest of a file that the user put into the cache."""
    if not entry.path.is_file():
        raise CheckpointError(
            f"{name} must be fetched by hand: open {entry.page} in a browser and save the file "
            f"as {entry.path}, or pass the path of the file"
        )
    digest = file_sha256(entry.path)
    if expected not in (None, digest):
        raise CheckpointError(
            f"{entry.path} must have the SHA-256 {expected}. Received: {digest}. Fetch it again, "
            f"or remove {entry.file_name}.sha256 to trust the new file."
        )
    return digest
