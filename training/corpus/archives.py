"""Unpacking of wanted files from Debian packages and from games' archives."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from training.corpus.sources import CorpusError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60


def unpack_deb(package: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Write the wanted files of a Debian package into a folder.

    Args:
        package: `.deb` file.
        folder: existing folder.
        wanted: decides by the path in the package, without a leading `./`.

    Raises:
        CorpusError: if the package is damaged, or compressed in a way that Python cannot read.
        OSError: if a file cannot be written.
    """
    with package.open("rb") as file:
        name = _find_data(file, package)
        if not name.endswith((".tar", ".tar.gz", ".tar.xz", ".tar.bz2")):
            raise CorpusError(f"{package.name} holds {name}, which this Python cannot unpack.")
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    path = PurePosixPath(member.name).as_posix().removeprefix("./")
                    if member.isfile() and wanted(path):
                        archive.extract(member, folder, filter="data")
        except tarfile.FilterError as error:
            raise CorpusError(f"{package.name} has an unsafe member: {error}.") from error
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
            raise CorpusError(f"{package.name} is damaged: {error}.") from error


def unpack_nested(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Replace the zip files in a folder by folders of their wanted files.

    Args:
        folder: searched at any depth, for `.zip` and for the archives of games, `.pk3` and `.wz`.
        wanted: decides by the path: the archive's, followed by the member's.

    Raises:
        OSError: if a file cannot be written.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".zip", ".pk3", ".wz") or not path.is_file():
            continue
        inside = path.with_name(path.name + ".unpacked")
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    relative = (inside / member.filename).relative_to(folder).as_posix()
                    if not member.is_dir() and wanted(relative):
                        archive.extract(member, inside)  # `zipfile` keeps it inside
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError):
            pass  # it holds no sound that can be read
        path.unlink()


def _find_data(file: BinaryIO, package: Path) -> str:
    """Move to the start of the package's data archive and return its name."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise CorpusError(f"{package.name} is not a Debian package.")
    while len(header := file.read(_AR_HEADER_BYTES)) == _AR_HEADER_BYTES:
        name, size = header[:16].decode("ascii", "replace").strip(" /"), header[48:58]
        if name.startswith("data.tar"):
            return name
        file.seek(int(size) + int(size) % 2, 1)
    raise CorpusError(f"{package.name} holds no data.tar.")
