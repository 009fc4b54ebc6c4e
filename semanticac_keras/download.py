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
    """A file does not have the expected digest."""


class _TransientError(Exception):
    """A failure worth retrying."""


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
    """Download a file unless it exists, resuming an interrupted download.

    Data is written to `path` + `.part`, which replaces `path` only once verified.

    Args:
        url: http or https address.
        path: file to write.
        sha256: expected hexadecimal digest; None accepts any.
        progress: whether to show a progress bar on stderr.
        md5: expected hexadecimal MD5 digest, for servers that publish no SHA-256.
        attempts: maximum number of attempts if the connection or the server fails.
        backoff_seconds: pause after the first failure; doubles with each failure.
        timeout_seconds: longest wait for data from the server.

    Returns:
        The file's hexadecimal SHA-256 digest.

    Raises:
        ValueError: if `url` is not http or https.
        DigestError: if the file has a different digest.
        DownloadError: if the file cannot be downloaded or written.
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
    """Extract a zip file into a new directory, which appears only when complete.

    Args:
        archive: zip file.
        directory: directory to create; must not exist.
        progress: whether to show a progress bar on stderr.

    Raises:
        ArchiveError: if the archive is damaged, or a member's path leads outside `directory`.
        DownloadError: if the directory cannot be written, for example on a full disk.
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
    """Extract a gzipped tar file into a new directory, which appears only when complete.

    Args:
        archive: `.tar.gz` file.
        directory: directory to create; must not exist.
        progress: whether to show a progress bar on stderr.

    Raises:
        ArchiveError: if the archive is damaged, contains devices, or leads outside `directory`.
        DownloadError: if the directory cannot be written, for example on a full disk.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ArchiveError(
            f"{archive} cannot be unpacked safely: this Python's `tarfile` has no extraction "
            "filters. Use Python 3.11.4 or newer."
        )
    with _appearing(directory) as unpacked, archive.open("rb") as compressed:
        total = archive.stat().st_size
        check_space(unpacked, total)  # a lower bound: the unpacked size is unknown
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
                while content.read(_BLOCK_BYTES):  # gzip verifies its checksum at the end
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
    """Return a one-line message for a failed write of `path` in the cache."""
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full: {path} cannot be written ({error.strerror}). Free some space or "
            "set SEMANTICAC_CACHE to another disk, and run the command again; nothing is lost."
        )
    return f"{path} cannot be written: {error.strerror or error}."


def check_space(directory: Path, needed_bytes: int) -> None:
    """Raise `OSError` with `ENOSPC` if the disk lacks the space, before anything is written."""
    if shutil.disk_usage(directory).free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{needed_bytes / 1e6:,.0f} MB are needed")


def _verified_sha256(file: Path, sha256: str | None, md5: str | None) -> str:
    """Return a file's SHA-256 digest, or raise `DigestError` if a digest differs."""
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
    """Complete `part` in one request, resuming it if the server's file is unchanged."""
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
                    raise _TransientError("the server resumed with a different file or range")
            else:
                # Empty the part before storing the new tag: a stale part must never match it.
                part.write_bytes(b"")
                offset = 0
                etag_file.write_text(_strong_etag(response))
            _receive(response, part, offset, progress)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # The part is not a prefix of the server's file.
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
    # A dropped connection looks like the end of the body.
    if total is not None and received < total:
        raise _TransientError(f"the connection ended after {received:,} of {total:,} bytes")


def _continues(response: http.client.HTTPResponse, offset: int, etag: str) -> bool:
    """Return whether a partial response continues the same file at `offset`."""
    content_range = response.headers.get("Content-Range", "")
    return content_range.startswith(f"bytes {offset}-") and _strong_etag(response) == etag


def _strong_etag(response: http.client.HTTPResponse) -> str:
    """Return the strong ETag, or "" (a weak one does not identify exact bytes)."""
    etag = response.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


def _etag_file(part: Path) -> Path:
    """Return the path of the file that stores the ETag of `part`."""
    return part.with_name(part.name + ".etag")


def _discard(part: Path) -> None:
    """Remove a partial download and its ETag."""
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """Yield an empty staging directory, renamed to `directory` on success."""
    staging = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        # Rename an inner directory: mkdtemp makes the outer one private.
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
    """Return whether a zip member's path leads outside the extraction directory."""
    path = PureWindowsPath(member)  # handles both slashes, roots and drives
    return ".." in path.parts or bool(path.anchor)
