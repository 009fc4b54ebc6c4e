"""Downloads from a faulty local server, and extraction of archives."""

import errno
import hashlib
import io
import re
import shutil
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from semanticac_keras.download import (
    ArchiveError,
    DownloadError,
    cache_dir,
    download,
    extract_tar,
    extract_zip,
)

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A served file, the faults of its server, and the requests received."""

    content: bytes = CONTENT
    etag: str = '"first"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes sent before disconnecting, per request
    statuses: list[int] = field(default_factory=list)  # error statuses, per request
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site():
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            site.asked.append(self.headers["Range"])
            if site.statuses:
                self.send_error(site.statuses.pop(0))
                return
            start = 0
            if site.ranges and self.headers["Range"] and self.headers["If-Range"] == site.etag:
                start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if start >= len(site.content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                last = len(site.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(site.content)}")
            self.send_header("ETag", site.etag)
            body = site.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(site, path, sha256=SHA256, attempts=3):
    return download(
        site.url, path, sha256, progress=False, attempts=attempts, backoff_seconds=0.001
    )


def leftovers(directory):
    return sorted(path.name for path in directory.iterdir())


def test_download_is_complete_and_leaves_no_other_files(site, tmp_path):
    path = tmp_path / "deep" / "file.bin"
    assert fetch(site, path) == SHA256
    assert path.read_bytes() == CONTENT
    assert leftovers(path.parent) == ["file.bin"]
    assert fetch(site, path) == SHA256
    assert site.asked == [None], "an existing file is not downloaded again"


def test_dropped_connection_is_resumed(site, tmp_path):
    site.cuts = [100_000, 50_000]
    assert fetch(site, tmp_path / "file.bin") == SHA256
    assert site.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_call_resumes(site, tmp_path):
    site.cuts = [100_000]
    with pytest.raises(DownloadError, match=r"100,000 of 300,000 bytes.* again to resume"):
        fetch(site, tmp_path / "file.bin", attempts=1)
    assert leftovers(tmp_path) == ["file.bin.part", "file.bin.part.etag"]
    assert fetch(site, tmp_path / "file.bin") == SHA256
    assert site.asked[-1] == "bytes=100000-"
    assert leftovers(tmp_path) == ["file.bin"]


def test_server_without_ranges_restarts_the_download(site, tmp_path):
    site.ranges = False
    site.cuts = [100_000]
    assert fetch(site, tmp_path / "file.bin") == SHA256
    assert site.asked == [None, "bytes=100000-"]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_tag_nothing_is_resumed(site, tmp_path, etag):
    site.etag = etag
    site.cuts = [100_000]
    assert fetch(site, tmp_path / "file.bin") == SHA256
    assert site.asked == [None, None]


def test_changed_file_is_downloaded_from_the_start(site, tmp_path):
    site.cuts = [100_000]
    with pytest.raises(DownloadError):
        fetch(site, tmp_path / "file.bin", attempts=1)
    site.content, site.etag = CONTENT[::-1], '"second"'
    digest = fetch(site, tmp_path / "file.bin", sha256=None)
    assert digest == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_part_longer_than_the_file_is_replaced(site, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.bin.part.etag").write_text(site.etag)
    assert fetch(site, tmp_path / "file.bin") == SHA256
    assert site.asked == ["bytes=300004-", None]


def test_a_wrong_checksum_discards_the_file(site, tmp_path):
    with pytest.raises(DownloadError, match=f"have the SHA-256 {'0' * 64}. Received: {SHA256}"):
        fetch(site, tmp_path / "file.bin", sha256="0" * 64)
    assert leftovers(tmp_path) == []


def test_md5_is_verified(site, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"another file")
    right, wrong = hashlib.md5(CONTENT).hexdigest(), "0" * 32
    assert download(site.url, path, progress=False, md5=right) == SHA256
    assert path.read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=f"the MD5 {wrong}. Received: {right}. .*discarded"):
        download(site.url, path, progress=False, md5=wrong)
    assert path.read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["file.bin"]


def test_transient_server_errors_are_retried(site, tmp_path):
    site.statuses = [503, 429]
    assert fetch(site, tmp_path / "file.bin") == SHA256


def test_retries_end(site, tmp_path):
    site.statuses = [503] * 9
    with pytest.raises(DownloadError, match="failed 3 times, last with: HTTP 503"):
        fetch(site, tmp_path / "file.bin")
    assert len(site.asked) == 3


def test_not_found_is_not_retried(site, tmp_path):
    site.statuses = [404]
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetch(site, tmp_path / "file.bin")
    assert len(site.asked) == 1


def test_unreachable_server_and_unsupported_scheme(tmp_path):
    closed = Site(url="http://127.0.0.1:9/file.bin")
    with pytest.raises(DownloadError, match="failed 2 times"):
        fetch(closed, tmp_path / "file.bin", attempts=2)
    with pytest.raises(ValueError, match="http"):
        download("file:///etc/hostname", tmp_path / "file.bin")


def test_full_disk_is_reported_and_keeps_the_part(site, tmp_path, monkeypatch):
    site.cuts = [100_000]
    with pytest.raises(DownloadError):
        fetch(site, tmp_path / "file.bin", attempts=1)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=199_999))
        with pytest.raises(DownloadError, match=r"The disk is full: .*file.bin"):
            fetch(site, tmp_path / "file.bin")
    assert fetch(site, tmp_path / "file.bin") == SHA256
    assert site.asked == [None, "bytes=100000-", "bytes=100000-"]


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_zip_is_extracted_completely(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"top/meta/a.csv": "1", "top/b.bin": CONTENT})
    extract_zip(archive, tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "top" / "b.bin").read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["a.zip", "out"]


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out", "C:\\x"])
def test_zip_with_paths_outside_is_rejected(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"fine.txt": "1", name: "2"})
    with pytest.raises(ArchiveError, match="outside its root"):
        extract_zip(archive, tmp_path / "deep" / "out", progress=False)
    assert leftovers(tmp_path) == ["a.zip", "deep"]
    assert leftovers(tmp_path / "deep") == []


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_zip_leaves_no_files(tmp_path, damage):
    archive = make_zip(tmp_path / "a.zip", {"b.bin": CONTENT})
    content = bytearray(archive.read_bytes())
    content[1000] ^= 0xFF
    archive.write_bytes(content if damage == "flipped" else content[:-1000])
    with pytest.raises(ArchiveError, match="not an intact zip file"):
        extract_zip(archive, tmp_path / "out", progress=False)
    assert leftovers(tmp_path) == ["a.zip"]


def test_disk_full_during_extraction_leaves_no_files(tmp_path, monkeypatch):
    def full(self, member, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = make_zip(tmp_path / "a.zip", {"b.bin": CONTENT})
    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(DownloadError, match="The disk is full"):
        extract_zip(archive, tmp_path / "out", progress=False)
    assert leftovers(tmp_path) == ["a.zip"]


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                file.addfile(member)
    return path


def test_tar_is_extracted_completely(tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", {"top/meta/a.csv": b"1", "top/b.bin": CONTENT})
    extract_tar(archive, tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "top" / "b.bin").read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["a.tar.gz", "out"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../out.txt", b"2"),
        ("a/../../out.txt", b"2"),
        ("link", (tarfile.SYMTYPE, "../../out.txt")),
        ("link", (tarfile.SYMTYPE, "/etc/hostname")),
        ("link", (tarfile.LNKTYPE, "../out.txt")),
        ("device", (tarfile.CHRTYPE, "")),
        ("pipe", (tarfile.FIFOTYPE, "")),
    ],
)
def test_unsafe_tar_is_rejected(tmp_path, name, content):
    archive = make_tar(tmp_path / "a.tar.gz", {"fine.txt": b"1", name: content})
    with pytest.raises(ArchiveError, match="unsafe member"):
        extract_tar(archive, tmp_path / "deep" / "out", progress=False)
    assert leftovers(tmp_path) == ["a.tar.gz", "deep"]
    assert leftovers(tmp_path / "deep") == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "unzipped"])
def test_damaged_tar_leaves_no_files(tmp_path, damage):
    archive = make_tar(tmp_path / "a.tar.gz", {"b.bin": CONTENT})
    content = bytearray(archive.read_bytes())
    content[100_000] ^= 0xFF  # within random bytes: only the checksum detects it
    damaged = {"cut": content[:-1000], "flipped": content, "unzipped": CONTENT}
    archive.write_bytes(damaged[damage])
    with pytest.raises(ArchiveError, match=r"not an intact tar\.gz file"):
        extract_tar(archive, tmp_path / "out", progress=False)
    assert leftovers(tmp_path) == ["a.tar.gz"]


def test_tar_is_not_extracted_onto_a_full_disk(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "a.tar.gz", {"b.bin": CONTENT})
    usage = shutil.disk_usage(tmp_path)._replace(free=archive.stat().st_size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"The disk is full: .*out"):
        extract_tar(archive, tmp_path / "out", progress=False)
    assert leftovers(tmp_path) == ["a.tar.gz"]


def test_environment_sets_the_cache_directory(monkeypatch):
    monkeypatch.setenv("SEMANTICAC_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_dir() == Path("/one")
    monkeypatch.delenv("SEMANTICAC_CACHE")
    assert cache_dir() == Path("/two/semanticac")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "semanticac"


def test_python_without_tar_filters_extracts_nothing(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    archive = make_tar(tmp_path / "a.tar.gz", {"b.bin": CONTENT})
    with pytest.raises(ArchiveError, match=r"Python 3\.11\.4"):
        extract_tar(archive, tmp_path / "out", progress=False)
    assert leftovers(tmp_path) == ["a.tar.gz"]
