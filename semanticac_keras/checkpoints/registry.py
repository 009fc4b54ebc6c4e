"""Published checkpoints by name: where they are and how they come into the user's cache."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semanticac_keras.checkpoints.files import open_checkpoint
from semanticac_keras.checkpoints.stored import CheckpointError
from semanticac_keras.download import DownloadError, cache_dir, download, file_sha256


@dataclass(frozen=True)
class Entry:
    """A published checkpoint.

    Args:
        tower: which encoder it fills.
        file_name: its name in the cache.
        page: where a person finds it.
        url: where it downloads from; None if it must be fetched by hand.
        sha256: its published digest; None if there is none.
        licence: of the weights, as their publisher states it.
        note: what to know before using it.
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
        """Where it lies, or will lie, in the cache."""
        return cache_dir() / "checkpoints" / self.file_name


_CLAP_REVISION = "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a"
_RN50_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"

REGISTRY: dict[str, Entry] = {
    "htsat-audioset": Entry(
        tower="audio",
        file_name="htsat-audioset.ckpt",
        page="https://drive.google.com/file/d/1OK8a5XuMVLyeVKF117L8pfxeZYdfSDZv",
        # Google Drive answers programs with a page that asks for confirmation.
        url=None,
        sha256=None,
        licence="MIT (code; none stated for the weights)",
        note="HTS-AT trained on AudioSet, what the paper starts from; 32 kHz",
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
        note="CLIP RN50, whose text tower the paper's figures point to",
    ),
}


def resolve(source: str | Path) -> Path:
    """The file of a source: a path as it is, a registered name from the cache or its publisher.

    Raises:
        CheckpointError: if there is neither, or the download fails.
    """
    if isinstance(source, str) and source in REGISTRY:
        return fetch(source)
    path = Path(source).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{source} is neither a file nor one of {', '.join(REGISTRY)}")
    return path


def fetch(name: str, progress: bool = True) -> Path:
    """Bring a registered checkpoint into the cache, unless it is there, and verify it.

    Where no digest is published, the first file is trusted with a warning, its digest is noted
    beside it, and any other file is refused from then on.

    Args:
        name: a key of `REGISTRY`.
        progress: show a progress bar on stderr.

    Raises:
        CheckpointError: if there is no such name, it must be fetched by hand, the download fails,
            or the file is not the one expected.
    """
    if name not in REGISTRY:
        raise CheckpointError(f"{name!r} is not one of {', '.join(REGISTRY)}")
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
        with open_checkpoint(entry.path):  # a web page or half a file is never trusted
            pass
        pin.write_text(f"{digest}\n")
        warnings.warn(
            f"no digest of {name} is published: {entry.path} is trusted as it is. "
            f"Its SHA-256 {digest} is kept in {pin.name} and required from now on.",
            stacklevel=2,
        )
    return entry.path


def _by_hand(name: str, entry: Entry, expected: str | None) -> str:
    """The digest of a file that the user put into the cache."""
    if not entry.path.is_file():
        raise CheckpointError(
            f"{name} must be fetched by hand: open {entry.page} in a browser and save the file as "
            f"{entry.path}, or pass the path of the file"
        )
    digest = file_sha256(entry.path)
    if expected not in (None, digest):
        raise CheckpointError(
            f"{entry.path} must have the SHA-256 {expected} that it had at first. "
            f"Received: {digest}. Fetch it again, or remove {entry.file_name}.sha256."
        )
    return digest
