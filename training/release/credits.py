"""Authors and licences of the recordings behind a packaged model, for attribution."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from training.datasets import DatasetError
from training.datasets.base import name_some

_ARCHIVE_LINE = re.compile(
    r"^- \[[^\]]+\]: +clip derived from (?P<title>.*) "
    r"\(https?://(?:www\.)?freesound\.org/people/[^/]+/sounds/(?P<source>\d+)/\)"
    r" by (?P<author>.+) \[(?P<licence>[^\]]+)\]$"
)


class Credit(NamedTuple):
    """Attribution of one recording.

    Args:
        source: its number on Freesound.
        author: user name on Freesound.
        title: of the recording.
        licence: chosen by the author.
    """

    source: str
    author: str
    title: str
    licence: str

    @property
    def url(self) -> str:
        """Page of the recording."""
        return f"https://freesound.org/s/{self.source}/"


def read_credits(path: Path, sources: Iterable[str]) -> list[Credit]:
    """Read the authors of recordings, in numeric order.

    Args:
        path: CSV with one row per recording.
        sources: numbers of the recordings.

    Raises:
        DatasetError: if a recording is missing from the file.
    """
    with path.open(newline="", encoding="utf-8") as file:
        credits = {row["source"]: Credit(**row) for row in csv.DictReader(file)}
    required = sorted(set(sources), key=lambda source: (len(source), source))  # as numbers
    if missing := [source for source in required if source not in credits]:
        raise DatasetError(
            f"{len(missing)} recordings have no author in {path}: {name_some(missing)}. Copy them "
            "from the archive's LICENSE."
        )
    return [credits[source] for source in required]


def check_credits(credits: Iterable[Credit], archive_licence: Path) -> None:
    """Check credits against the `LICENSE` of the ESC-50 archive.

    Args:
        credits: to check.
        archive_licence: path of the archive's `LICENSE`.

    Raises:
        DatasetError: if an author or a licence differs or is missing.
    """
    lines = archive_licence.read_text(encoding="utf-8").splitlines()
    found = {m["source"]: m for m in map(_ARCHIVE_LINE.match, lines) if m}
    wrong = [
        credit.source
        for credit in credits
        if credit.source not in found
        or found[credit.source]["author"] != credit.author
        or found[credit.source]["licence"].replace("-", " ", 1) != credit.licence
    ]
    if wrong:
        raise DatasetError(
            f"{archive_licence} names other authors or licences of {len(wrong)} recordings: "
            f"{name_some(wrong)}."
        )
