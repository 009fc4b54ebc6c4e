"""Fetching of a source's files: Debian packages, git repositories and folders."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from semanticac_keras.download import DownloadError, download, file_sha256
from training.corpus.archives import unpack_deb, unpack_nested
from training.corpus.sources import CorpusError, Source

DEBIAN_MIRROR = "https://ftp.debian.org/debian"

_CREDITS = re.compile(r"licen[cs]e|credit|attribution|copying|copyright|readme|author", re.I)
_NOT_TEXT = re.compile(r"\.(py|c|h|cpp|js|java|cs|png|jpe?g|svg|html?|dm|lua)$", re.I)
_MAX_CREDITS_BYTES = 2 << 20
_GIT_SECONDS = 3600
_SYMBOLIC_LINK = "120000"


@contextmanager
def fetched(
    source: Source, downloads: Path, debian_mirror: str
) -> Iterator[tuple[Path, list[str]]]:
    """Fetch a source; yield a folder with its sounds and credits, which may be temporary.

    A downloaded package and a repository's objects stay in `downloads` for the next time.

    Args:
        source: what to fetch.
        downloads: folder for packages and repositories.
        debian_mirror: address of a Debian mirror, where `apt-get` has no such version.

    Yields:
        The folder, and lines about files that could not be fetched.

    Raises:
        CorpusError: if the source cannot be fetched or unpacked.
        OSError: if a file cannot be written.
    """
    if source.fetch == "folder":
        folder = Path(source.folder).expanduser()
        if not folder.is_dir():
            raise CorpusError(f"{source.name}: the folder {folder} does not exist.")
        yield folder, []
        return
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{source.name}-", dir=downloads) as name:
        folder = Path(name)
        problems: list[str] = []
        if source.fetch == "debian":
            package = _fetch_package(source, downloads, debian_mirror)
            unpack_deb(package, folder, lambda path: wanted(source, path))
        else:
            problems = _check_out(source, downloads / f"{source.name}.git", folder)
        unpack_nested(folder, lambda path: wanted(source, path))
        yield folder, problems


def is_credits(path: str) -> bool:
    """Return whether a file's name promises licences or credits."""
    name = PurePosixPath(path).name
    return bool(_CREDITS.search(name)) and not _NOT_TEXT.search(name)


def wanted(source: Source, path: str) -> bool:
    """Return whether to unpack a file: a sound, credits, or an archive that may hold sounds."""
    return source.wants(path) or is_credits(path) or path.lower().endswith((".pk3", ".wz", ".zip"))


def credits_of(folder: Path) -> dict[str, str]:
    """Return the credits in a folder, from relative path to text."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if is_credits(relative) and path.is_file() and path.stat().st_size <= _MAX_CREDITS_BYTES:
            found[relative] = path.read_text(encoding="utf-8", errors="replace")
    return found


def _fetch_package(source: Source, downloads: Path, debian_mirror: str) -> Path:
    """Return the verified file of a Debian package."""
    path = downloads / PurePosixPath(source.pool).name
    if path.is_file() and file_sha256(path) == source.sha256:
        return path
    if (apt_get := shutil.which("apt-get")) is not None:
        with tempfile.TemporaryDirectory(dir=downloads) as directory:
            command = [apt_get, "download", "-qq", f"{source.name}={source.version}"]
            subprocess.run(command, cwd=directory, capture_output=True, check=False)
            for file in Path(directory).glob("*.deb"):
                if file_sha256(file) == source.sha256:
                    file.replace(path)
                    return path
    try:
        download(f"{debian_mirror.rstrip('/')}/{source.pool}", path, source.sha256)
    except DownloadError as error:
        raise CorpusError(f"{source.name}: {error}") from error
    return path


def _check_out(source: Source, repository: Path, folder: Path) -> list[str]:
    """Fetch the wanted files of a commit, and write them into a folder.

    Only the wanted blobs travel: the first fetch brings the commit and its trees alone.
    """
    if shutil.which("git") is None:
        raise CorpusError(f"{source.name}: `git` is not installed.")
    if not repository.is_dir():
        _git(source, repository, "init", "--quiet", "--bare", str(repository))
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1", "--filter=blob:none")
    _git(source, repository, "config", "remote.origin.url", source.repository)
    _git(source, repository, "fetch", *options, "origin", source.commit)
    listing = _git(source, repository, "ls-tree", "-r", "-z", source.commit)
    blobs = {}
    for entry in filter(None, listing.split("\0")):
        description, path = entry.split("\t", 1)
        mode, kind, blob = description.split()
        inside = not {"..", ""} & set(path.split("/"))  # only a forged tree leads outside
        if kind == "blob" and mode != _SYMBOLIC_LINK and inside and wanted(source, path):
            blobs[path] = blob
    missing = _fetch_blobs(source, repository, set(blobs.values()))
    _write_blobs(repository, {p: b for p, b in blobs.items() if b not in missing}, folder)
    return [
        f"{path}: the repository does not hold this file"
        for path, blob in blobs.items()
        if blob in missing
    ]


def _write_blobs(repository: Path, blobs: Mapping[str, str], folder: Path) -> None:
    """Write blobs that the repository has to their paths in a folder."""
    command = ["git", f"--git-dir={repository}", "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for path, blob in blobs.items():
            process.stdin.write(f"{blob}\n".encode())
            process.stdin.flush()
            size = int(process.stdout.readline().split()[2])
            content = process.stdout.read(size + 1)[:size]
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def _fetch_blobs(source: Source, repository: Path, blobs: set[str]) -> set[str]:
    """Fetch blobs together; return those that the remote lacks, as a partial copy may."""
    missing: set[str] = set()
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none", "--stdin")
    while wanted_blobs := sorted(blobs - missing - _present(source, repository)):
        try:
            _git(source, repository, "fetch", *options, "origin", text="\n".join(wanted_blobs))
        except CorpusError as error:
            absent = set(re.findall(r"not our ref ([0-9a-f]{40})", str(error))) & blobs
            if not absent:
                raise
            missing |= absent
    return missing


def _present(source: Source, repository: Path) -> set[str]:
    """Return the objects of the repository, without fetching a missing one as other ways do."""
    options = ("--batch-all-objects", "--unordered", "--batch-check=%(objectname)")
    return set(_git(source, repository, "cat-file", *options).split())


def _git(source: Source, repository: Path, *arguments: str, text: str = "") -> str:
    """Run git in a repository and return its output."""
    command = ["git", f"--git-dir={repository}", *arguments]
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            check=False,
            timeout=_GIT_SECONDS,
            env=_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise CorpusError(f"{source.name}: git {arguments[0]} took more than an hour.") from error
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        raise CorpusError(f"{source.name}: git {arguments[0]} failed: {reason or 'no reason'}")
    return done.stdout.decode(errors="surrogateescape")


def _environment() -> dict[str, str]:
    """Return an environment in which git asks for nothing and speaks English."""
    return {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
