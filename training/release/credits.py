"""Whom the recordings of a shipped model's dataset are by, as their licences ask to be told."""

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
    """A recording that clips were cut from.

    Args:
        source: its number at Freesound.
        author: the name there.
        title: of the recording.
        licence: its author's.
    """

    source: str
    author: str
    title: str
    licence: str

    @property
    def url(self) -> str:
        """Its page."""
        return f"https://freesound.org/s/{self.source}/"


def read_credits(path: Path, sources: Iterable[str]) -> list[Credit]:
    """Read the recordings' authors, in the order of the numbers.

    Args:
        path: CSV with a line for each recording.
        sources: the recordings that need one.

    Raises:
        DatasetError: if one is missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        credits = {row["source"]: Credit(**row) for row in csv.DictReader(file)}
    wanted = sorted(set(sources), key=lambda source: (len(source), source))  # as numbers
    if missing := [source for source in wanted if source not in credits]:
        raise DatasetError(
            f"{len(missing)} recordings have no author in {path}: {name_some(missing)}. Take them "
            "from the archive's LICENSE."
        )
    return [credits[source] for source in wanted]


def check_credits(credits: Iterable[Credit], archive_licence: Path) -> None:
    """Compare with the list that the archive of ESC-50 has.

    Args:
        credits: to check.
        archive_licence: its `LICENSE`.

    Raises:
        DatasetError: if an author or a licence differs, or is not there.
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
