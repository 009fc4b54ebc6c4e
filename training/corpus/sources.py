"""The manifest: where the sounds of a corpus come from, and what their licences allow."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from semanticac_keras.sound_files import AUDIO_SUFFIXES

# The list in the package.
MANIFEST = Path(__file__).with_name("sources.toml")

KINDS = (
    *("nature", "animals", "human", "household", "machines", "vehicles", "weapons", "impacts"),
    *("signals", "ambience", "synthetic", "mixed", "music", "speech"),
)
FETCHES = ("debian", "git", "folder")

_REQUIRED = {
    "debian": ("version", "sha256", "pool"),
    "git": ("repository", "commit"),
    "folder": ("folder",),
}


class CorpusError(Exception):
    """A corpus cannot be built or read."""


@dataclass(frozen=True)
class Source:
    """One entry of the manifest.

    Args:
        name: unique name, also of the package where `fetch` is "debian".
        fetch: "debian", "git" or "folder".
        licence: terms of the sounds.
        may_ship: whether the licence lets weights that were trained on the sounds be published.
        kind: kind of most of the sounds, one of `KINDS`.
        kinds: from a kind to globs of the paths that have it instead.
        include: globs of paths; only these are read. All by default.
        exclude: globs of paths that are not read.
        held_out: whether the sounds are kept out of training.
        note: for the table.
        version: of the Debian package.
        sha256: of the Debian package's file.
        pool: path of that file on a Debian mirror, from `pool/`.
        repository: address of the git repository.
        commit: its commit, 40 hexadecimal digits.
        folder: path of a folder on this computer.
    """

    name: str
    fetch: str
    licence: str
    may_ship: bool
    kind: str = "mixed"
    kinds: Mapping[str, list[str]] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    held_out: bool = False
    note: str = ""
    version: str = ""
    sha256: str = ""
    pool: str = ""
    repository: str = ""
    commit: str = ""
    folder: str = ""

    @property
    def key(self) -> str:
        """Digest of all that decides which sounds the source has."""
        chosen = {**asdict(self), "held_out": None, "licence": None, "note": None}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()

    @property
    def origin(self) -> str:
        """Where the sounds come from, for people."""
        if self.fetch == "debian":
            return f"Debian package {self.name} {self.version}"
        if self.fetch == "git":
            return f"{self.repository} at {self.commit}"
        return f"folder {self.folder}"

    def wants(self, path: str) -> bool:
        """Return whether a path, relative and with slashes, names a sound to read."""
        return (
            PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES
            and (not self.include or _matches(path, self.include))
            and not _matches(path, self.exclude)
        )

    def kind_of(self, path: str) -> str:
        """Return the kind that the manifest gives a path."""
        for kind, globs in self.kinds.items():
            if _matches(path, globs):
                return kind
        return self.kind


# The type of each key in TOML.
_TYPES: Mapping[str, type] = {
    **{field.name: str for field in fields(Source)},
    **{"may_ship": bool, "held_out": bool, "kinds": dict, "include": list, "exclude": list},
}


def read_sources(path: Path = MANIFEST) -> tuple[Source, ...]:
    """Read a manifest, in its order.

    Args:
        path: TOML file with one `[[source]]` table per source.

    Raises:
        CorpusError: if the file cannot be read, or an entry is wrong.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("source", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(f"{path} is not a readable manifest: {error}.") from error
    sources = tuple(_source(table, path) for table in tables)
    if not sources:
        raise CorpusError(f"{path} must list at least one `[[source]]`.")
    names = [source.name for source in sources]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"Names in {path} must be unique. Repeated: {repeated[0]}.")
    return sources


def _source(table: Mapping[str, Any], path: Path) -> Source:
    """Check an entry of the manifest."""
    name = table.get("name", "?")
    for key, value in table.items():
        if key not in _TYPES:
            raise CorpusError(f"{path}, source {name}: unknown key `{key}`.")
        expected = _TYPES[key]
        if not isinstance(value, expected):
            raise CorpusError(
                f"{path}, source {name}: `{key}` must be a {expected.__name__}. "
                f"Received: {value!r}."
            )
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in table.items()
    }
    fetch = values.get("fetch")
    if fetch not in FETCHES:
        raise CorpusError(f"{path}, source {name}: `fetch` must be one of {', '.join(FETCHES)}.")
    required = ("name", "licence", "may_ship", *_REQUIRED[str(fetch)])
    if missing := [key for key in required if values.get(key) in (None, "")]:
        raise CorpusError(f"{path}, source {name}: `{missing[0]}` is missing.")
    if PurePosixPath(name).name != name or name.startswith("."):
        raise CorpusError(f"{path}: `name` must be usable as a file name. Received: {name!r}.")
    source = Source(**values)
    if unknown := {source.kind, *source.kinds} - set(KINDS):
        raise CorpusError(
            f"{path}, source {name}: a kind must be one of {', '.join(KINDS)}. "
            f"Received: {sorted(unknown)[0]}."
        )
    return source


def _matches(path: str, globs: tuple[str, ...] | list[str]) -> bool:
    """Return whether a path matches one of some globs, in which `*` also matches slashes."""
    return any(fnmatchcase(path.lower(), glob.lower()) for glob in globs)
