"""Packages from apt-get and from a local server, repositories, folders, nested archives."""

import hashlib
import io
import stat
import subprocess
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.training.corpus.sounds import bursts, ogg, write_deb, write_repository
from training.corpus.fetching import credits_of, fetched
from training.corpus.sources import CorpusError, Source

NOWHERE = "http://127.0.0.1:9"


def package_source(path, **changes):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    fields = {"version": "1.0-1", "sha256": sha256, "pool": f"pool/main/f/frogs/{path.name}"}
    return Source("frogs", "debian", "CC0", True, **{**fields, **changes})


def files_of(source, downloads, mirror=NOWHERE):
    with fetched(source, downloads, mirror) as (folder, problems):
        paths = (path for path in folder.rglob("*") if path.is_file())
        contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    assert not [path for path in downloads.iterdir() if path.name.startswith(".")]
    return contents, problems


@pytest.fixture
def package(tmp_path):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("sounds/owl.ogg", b"owl")
        archive.writestr("../escape.ogg", b"escape")
        archive.writestr("textures/owl.png", b"image")
    files = {
        "usr/share/frogs/frog.ogg": b"frog",
        "usr/share/frogs/frog.png": b"image",
        "usr/share/frogs/all.pk3": zipped.getvalue(),
        "usr/share/frogs/broken.zip": b"no zip",
        "usr/share/doc/frogs/copyright": b"CC0",
    }
    return write_deb(tmp_path / "frogs_1.0-1_all.deb", files)


@pytest.fixture
def no_apt(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def mirror(tmp_path):
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "mirror")

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


UNPACKED = {
    "usr/share/frogs/frog.ogg": b"frog",
    "usr/share/frogs/all.pk3.unpacked/sounds/owl.ogg": b"owl",
    "usr/share/doc/frogs/copyright": b"CC0",
}


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_a_package_from_a_mirror_is_verified_and_unpacked(
    tmp_path, package, no_apt, mirror, compression
):
    if compression == "gz":
        files = {"usr/share/frogs/frog.ogg": b"frog"}
        package = write_deb(tmp_path / "frogs_1.0-1_all.deb", files, "gz")
    served = tmp_path / "mirror" / "pool/main/f/frogs" / package.name
    served.parent.mkdir(parents=True)
    source = package_source(package)
    package.rename(served)
    contents, problems = files_of(source, tmp_path / "downloads", mirror)
    contents.pop("usr/share/frogs/all.pk3.unpacked/escape.ogg", None)  # kept inside
    assert contents == (UNPACKED if compression == "xz" else {"usr/share/frogs/frog.ogg": b"frog"})
    assert not problems
    served.unlink()  # the second time, nothing is downloaded
    files_of(source, tmp_path / "downloads", mirror)
    assert not (tmp_path / "escape.ogg").exists()


def test_apt_get_comes_first(tmp_path, package, monkeypatch):
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n/bin/echo "$@" > {tmp_path}/asked\n/bin/cp {package} .\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    contents, _ = files_of(package_source(package), tmp_path / "downloads")
    assert contents["usr/share/frogs/frog.ogg"] == b"frog"
    assert (tmp_path / "asked").read_text() == "download -qq frogs=1.0-1\n"


def test_another_file_of_that_name_is_refused(tmp_path, package, no_apt, mirror):
    served = tmp_path / "mirror" / "pool/main/f/frogs" / package.name
    served.parent.mkdir(parents=True)
    package.rename(served)
    source = package_source(served, sha256="0" * 64)
    with pytest.raises(CorpusError, match=r"frogs: .*must have the SHA-256 0000"):
        files_of(source, tmp_path / "downloads", mirror)


@pytest.mark.parametrize("damage", ["other", "empty"])
def test_a_damaged_package_is_one_line(tmp_path, package, damage):
    content = package.read_bytes()
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    broken = downloads / package.name
    damaged = {"other": b"no package", "empty": content[:72]}
    broken.write_bytes(damaged[damage])
    with pytest.raises(CorpusError, match=r"frogs_1.0-1_all.deb (is damaged|is not|holds no)"):
        files_of(package_source(broken), downloads)


def test_only_the_wanted_files_of_a_commit_are_fetched(tmp_path):
    sound = ogg(bursts(0, 0.25))
    files = {"sounds/frog.ogg": sound, "sounds/x.ogg": b"x", "main.c": b"code", "LICENSE": b"MIT"}
    commit = write_repository(tmp_path / "remote", files)
    fields = {"repository": (tmp_path / "remote").as_uri(), "commit": commit}
    source = Source("frogs", "git", "MIT", True, exclude=("*/x.ogg",), **fields)
    contents, problems = files_of(source, tmp_path / "downloads")
    assert contents == {"sounds/frog.ogg": sound, "LICENSE": b"MIT"}
    assert not problems
    (tmp_path / "remote").rename(tmp_path / "gone")
    (tmp_path / "gone").rename(tmp_path / "remote")
    assert files_of(source, tmp_path / "downloads")[0] == contents


def test_a_file_that_a_partial_remote_lacks_is_listed(tmp_path):
    files = {"a.ogg": b"first", "b.ogg": b"second", "c.ogg": b"third"}
    remote = tmp_path / "remote"
    commit = write_repository(remote, files)
    blob = subprocess.run(
        ["git", "-C", remote, "rev-parse", "HEAD:b.ogg"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (remote / ".git/objects" / blob[:2] / blob[2:]).unlink()
    source = Source("frogs", "git", "MIT", True, repository=remote.as_uri(), commit=commit)
    contents, problems = files_of(source, tmp_path / "downloads")
    assert contents == {"a.ogg": b"first", "c.ogg": b"third"}
    assert problems == ["b.ogg: the repository does not hold this file"]


def test_an_unknown_commit_and_a_missing_folder_are_one_line(tmp_path):
    write_repository(tmp_path / "remote", {"a.ogg": b"a"})
    fields = {"repository": (tmp_path / "remote").as_uri(), "commit": "0" * 40}
    with pytest.raises(CorpusError, match="frogs: git fetch failed") as caught:
        files_of(Source("frogs", "git", "MIT", True, **fields), tmp_path / "downloads")
    assert "\n" not in str(caught.value)
    with pytest.raises(CorpusError, match=r"the folder .* does not exist"):
        files_of(Source("s", "folder", "CC0", True, folder=str(tmp_path / "none")), tmp_path)


def test_credits_are_texts_with_a_promising_name(tmp_path):
    for name in ("LICENSE", "sound/CREDITS.md", "readme.png", "frog.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert credits_of(tmp_path) == {"LICENSE": "LICENSE", "sound/CREDITS.md": "sound/CREDITS.md"}
