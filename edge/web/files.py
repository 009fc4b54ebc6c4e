"""Static files of the page, and clips."""

from functools import cache
from importlib import resources
from pathlib import Path

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@cache
def static(name: str) -> bytes:
    """Content of a file in `static/`.

    Raises:
        FileNotFoundError: if no file has that name.
    """
    folder = resources.files("edge.web") / "static"
    for file in folder.iterdir():
        if file.name == name and media_type(name):
            return file.read_bytes()
    raise FileNotFoundError(name)


def media_type(name: str) -> str | None:
    """Media type by file extension; None if it is not a type of the page."""
    return _TYPES.get(name.rpartition(".")[2])


def find_clip(directory: Path, name: str) -> Path | None:
    """Find a clip directly in `directory`; None for any other path."""
    if name != Path(name).name or name.startswith(".") or "\0" in name or "\\" in name:
        return None
    path = directory / name
    good = path.suffix.lower() == ".wav" and path.is_file() and not path.is_symlink()
    return path if good else None
