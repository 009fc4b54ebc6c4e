"""Resumable, verified downloads into the user's cache, and safe extraction of archives."""

import errno
import gzip
import hashlib
import http.client
import os
import shutil
import socket
import ssl
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from semanticac_keras.progress import progress_bar

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_BLOCK_BYTES = 1 << 16


class DownloadError(Exception):
    """A file could not be fetched, verified or unpacked."""


class ArchiveError(DownloadError):
    """An archive is damaged or unsafe."""


class DigestError(DownloadError):
    """A file is not the one expected."""


class _TransientError(Exception):
    """A failure that another attempt may not meet."""


def cache_dir() -> Path:
    """Return `$SEMANTICAC_CACHE`, else `$XDG_CACHE_HOME/semanticac`, else `~/.cache/semanticac`."""
    if chosen := os.environ.get("SEMANTICAC_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semanticac"


def download(
    url: str,
    path: Path,
    sha256: str | None = None,
    progress: bool = True,
    *,
    md5: str | None = None,
    attempts: int = 5,
    backoff_seconds: float = 1.0,
    timeout_seconds: float = 30.0,
) -> str:
    """Fetch a file unless it is there already, resuming what an earlier call left behind.

    Data gathers in `path` + `.part`; `path` appears, or is replaced, only by a verified file.

    Args:
        url: http or https address.
        path: where the file goes.
        sha256: expected hexadecimal digest; None accepts any.
        progress: whether to show a progress bar on stderr.
        md5: likewise, for servers that publish no SHA-256.
        attempts: how often to try in all when the connection or the server fails.
        backoff_seconds: pause after the first failure; doubles with each.
        timeout_seconds: longest silence of the server.

    Returns:
        The file's hexadecimal SHA-256 digest.

    Raises:
        ValueError: if `url` is not http or https.
        DigestError: if the file has another digest.
        DownloadError: if it cannot be fetched or written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"`url` must start with http:// or https://. Received: {url!r}.")
    part = path.with_name(path.name + ".part")
    try:
        if path.is_file():
            with suppress(DigestError):
                return _verified_sha256(path, sha256, md5)
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, attempts + 1):
            try:
                _fetch(url, part, progress, timeout_seconds)
                break
            except _TransientError as error:
                if attempt == attempts:
                    raise DownloadError(
                        f"{url} failed {attempts} times, last with: {error}. "
                        "Run the command again to resume."
                    ) from error
            time.sleep(backoff_seconds * 2 ** (attempt - 1))
        try:
            digest = _verified_sha256(part, sha256, md5)
        except DigestError as error:
            _discard(part)
            raise DigestError(f"{url} {error} The file was discarded.") from error
        part.replace(path)
        _discard(part)
    except OSError as error:
        raise DownloadError(os_reason(error, path)) from error
    return digest


def extract_zip(archive: Path, directory: Path, progress: bool = True) -> None:
    """Unpack a zip file into a new directory, which appears only when complete.

    Args:
        archive: the zip file.
        directory: where its members go; must not exist.
        progress: whether to show a progress bar on stderr.

    Raises:
        ArchiveError: if the archive is damaged or has members that point outside `directory`.
        DownloadError: if it cannot be written, such as for a full disk.
    """
    with _appearing(directory) as unpacked:
        try:
            with zipfile.ZipFile(archive) as file:
                members = file.infolist()
                if unsafe := [member.filename for member in members if _escapes(member.filename)]:
                    raise ArchiveError(f"{archive} has members outside its root: {unsafe[0]!r}.")
                total = sum(member.file_size for member in members)
                check_space(unpacked, total)
                with progress_bar(
                    f"Unpacking {archive.name}", total, enabled=progress, in_bytes=True
                ) as advance:
                    for member in members:
                        file.extract(member, unpacked)
                        advance(member.file_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise ArchiveError(f"{archive} is not an intact zip file: {error}.") from error


def extract_tar(archive: Path, directory: Path, progress: bool = True) -> None:
    """Unpack a gzipped tar file into a new directory, which appears only when complete.

    Args:
        archive: the `.tar.gz` file.
        directory: where its members go; must not exist.
        progress: whether to show a progress bar on stderr.

    Raises:
        ArchiveError: if the archive is damaged, or has devices or a way out of `directory`.
        DownloadError: if it cannot be written, such as for a full disk.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ArchiveError(
            f"{archive} cannot be unpacked safely by this Python, whose `tarfile` has no filters. "
            "Take Python 3.11.4 or newer."
        )
    with _appearing(directory) as unpacked, archive.open("rb") as compressed:
        total = archive.stat().st_size
        check_space(unpacked, total)  # only the end of the archive says how much more it takes
        try:
            with (
                gzip.open(compressed) as content,
                tarfile.open(fileobj=content, mode="r:") as file,
                progress_bar(
                    f"Unpacking {archive.name}", total, enabled=progress, in_bytes=True
                ) as advance,
            ):
                for member in file:
                    done = compressed.tell()
                    file.extract(member, unpacked, filter="data")
                    advance(compressed.tell() - done)
                while content.read(_BLOCK_BYTES):  # gzip compares its checksum at the end
                    pass
        except tarfile.FilterError as error:
            raise ArchiveError(f"{archive} has an unsafe member: {error}.") from error
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ArchiveError(f"{archive} is not an intact tar.gz file: {error}.") from error


def file_sha256(path: Path) -> str:
    """Return a file's hexadecimal SHA-256 digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def os_reason(error: OSError, path: Path) -> str:
    """Return one line on a failed write of `path`, a file or directory in the cache."""
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full: {path} cannot be written ({error.strerror}). Free some space or "
            "set SEMANTICAC_CACHE to another disk, and run the command again; nothing is lost."
        )
    return f"{path} cannot be written: {error.strerror or error}."


def check_space(directory: Path, needed_bytes: int) -> None:
    """Raise `OSError` as a full disk would, before anything is written."""
    if shutil.disk_usage(directory).free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{needed_bytes / 1e6:,.0f} MB are needed")


def _verified_sha256(file: Path, sha256: str | None, md5: str | None) -> str:
    """Return a file's SHA-256 digest if it has the expected digests."""
    digest = file_sha256(file)
    if sha256 not in (None, digest):
        raise DigestError(f"must have the SHA-256 {sha256}. Received: {digest}.")
    if md5 is not None:
        with file.open("rb") as content:
            received = hashlib.file_digest(content, "md5").hexdigest()
        if received != md5:
            raise DigestError(f"must have the MD5 {md5}. Received: {received}.")
    return digest


def _fetch(url: str, part: Path, progress: bool, timeout_seconds: float) -> None:
    """Bring `part` to completeness in one request, resuming it if the server's file is the same."""
    etag_file = _etag_file(part)
    etag = etag_file.read_text() if etag_file.is_file() and part.is_file() else ""
    offset = part.stat().st_size if etag else 0
    headers = {"User-Agent": "semanticac-keras"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
    try:
        with urlopen(Request(url, headers=headers), timeout=timeout_seconds) as response:
            if response.status == 206:
                if not _continues(response, offset, etag):
                    _discard(part)
                    raise _TransientError("the server resumed with something else")
            else:
                # Emptied before its new tag is noted: a stale part must never match it.
                part.write_bytes(b"")
                offset = 0
                etag_file.write_text(_strong_etag(response))
            _receive(response, part, offset, progress)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # The part is no beginning of the server's file.
            _discard(part)
        elif error.code not in _TRANSIENT_STATUS:
            raise DownloadError(f"{url}: HTTP {error.code} {error.reason}.") from error
        raise _TransientError(f"HTTP {error.code} {error.reason}") from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError | socket.gaierror):
            raise DownloadError(f"{url} cannot be reached: {error.reason}.") from error
        raise _TransientError(str(error.reason)) from error
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise _TransientError(str(error) or type(error).__name__) from error


def _receive(response: http.client.HTTPResponse, part: Path, offset: int, progress: bool) -> None:
    """Append the body of a response to `part`."""
    length = response.headers.get("Content-Length")
    total = offset + int(length) if length else None
    if length:
        check_space(part.parent, int(length))
    received = offset
    with (
        part.open("ab") as file,
        progress_bar(f"Downloading {part.stem}", total, enabled=progress, in_bytes=True) as advance,
    ):
        advance(offset)
        while block := response.read(_BLOCK_BYTES):
            file.write(block)
            received += len(block)
            advance(len(block))
    # A cut connection looks like the end of the body.
    if total is not None and received < total:
        raise _TransientError(f"the connection ended after {received:,} of {total:,} bytes")


def _continues(response: http.client.HTTPResponse, offset: int, etag: str) -> bool:
    """Return whether a partial response is the rest of the file begun."""
    content_range = response.headers.get("Content-Range", "")
    return content_range.startswith(f"bytes {offset}-") and _strong_etag(response) == etag


def _strong_etag(response: http.client.HTTPResponse) -> str:
    """Return the tag that names these exact bytes, or "" (a weak tag allows other bytes)."""
    etag = response.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


def _etag_file(part: Path) -> Path:
    """Return where the tag of the file behind `part` is noted."""
    return part.with_name(part.name + ".etag")


def _discard(part: Path) -> None:
    """Remove a partial download and its tag."""
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """Yield an empty directory, which becomes `directory` unless something goes wrong."""
    staging = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        # The directory to rename is an inner one: mkdtemp makes the outer one private.
        unpacked = staging / directory.name
        unpacked.mkdir()
        yield unpacked
        unpacked.replace(directory)
    except OSError as error:
        raise DownloadError(os_reason(error, directory)) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _escapes(member: str) -> bool:
    """Return whether a zip member's name points outside the directory it is extracted to."""
    path = PureWindowsPath(member)  # knows both slashes, roots and drives
    return ".." in path.parts or bool(path.anchor)
