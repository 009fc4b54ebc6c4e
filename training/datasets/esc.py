"""ESC-50 and its subset ESC-10: environmental sounds in five official folds.

Source: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

import os
import sys
from collections import Counter
from pathlib import Path

from semanticac_keras.download import (
    ArchiveError,
    DigestError,
    DownloadError,
    cache_dir,
    download,
    extract_zip,
)
from semanticac_keras.sound_files import AudioHeader, read_header
from training.datasets.audio import read_clip
from training.datasets.base import (
    AudioDataset,
    Clip,
    DatasetError,
    map_files,
    name_some,
    read_official_table,
)

COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
URL = f"https://github.com/karolpiczak/ESC-50/archive/{COMMIT}.zip"
# GitHub generates the archive on request and publishes no digest. Several public projects recorded
# this one; another is accepted with a warning, since the contents are checked as well.
ARCHIVE_SHA256 = "661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f"
METADATA_SHA256 = "ca660da60191a97de289983a05821c9382d852a38a2ba8428980816b68cf6246"
HEADER = AudioHeader(sample_rate_hz=44_100, num_channels=1, num_frames=220_500)
# The official folds of ESC-50 separate clips of four recordings, each cut into two classes (clock
# tick and alarm, hen and rooster). Changing them would make results incomparable.
STRADDLING_SOURCES = frozenset({"131943", "134049", "209698", "234879"})

_COPY_TOLERANCE_SECONDS = 0.01  # resampling may add or drop a few samples
_CITATION = (
    "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. "
    "ACM Multimedia 2015. https://doi.org/10.1145/2733373.2806390"
)


def load_esc10(data_dir: Path | None, progress: bool) -> AudioDataset:
    """Return ESC-10: 400 clips of 10 classes under CC BY. Arguments as for `load_esc50`."""
    root = _locate(data_dir, progress)
    rows = [row for row in _read_metadata(root) if row["esc10"] == "True"]
    return _build("esc10", "CC BY", root, rows, frozenset(), progress)


def load_esc50(data_dir: Path | None, progress: bool) -> AudioDataset:
    """Return ESC-50: 2,000 clips of 50 classes.

    Args:
        data_dir: folder of the unpacked official archive or its parent. None downloads the archive
            into the cache, from `$SEMANTICAC_ESC50_URL` if set. The clips may also be copies at
            another sample rate, the same for all.
        progress: whether to show progress bars on stderr.

    Raises:
        DatasetError: if the archive cannot be downloaded, or clips are missing, damaged or of
            different sample rates.
    """
    root = _locate(data_dir, progress)
    return _build("esc50", "CC BY-NC 3.0", root, _read_metadata(root), STRADDLING_SOURCES, progress)


def load_others(data_dir: Path | None, progress: bool) -> list[tuple[str, Clip]]:
    """Return the available clips of ESC-50 outside ESC-10, with their category.

    Clips cut from a recording of ESC-10 are excluded. Some clips may be missing, so this is not an
    `AudioDataset`. Arguments and errors as for `load_esc50`.
    """
    root = _locate(data_dir, progress)
    rows = _read_metadata(root)
    known = {row["src_file"] for row in rows if row["esc10"] == "True"}
    return [
        (row["category"].replace("_", " "), _clip(row, path, int(row["target"])))
        for row in rows
        if row["src_file"] not in known and (path := root / "audio" / row["filename"]).is_file()
    ]


def _locate(data_dir: Path | None, progress: bool) -> Path:
    """Return the folder with `meta` and `audio`."""
    parent = _fetch(progress) if data_dir is None else data_dir
    names = ["", "ESC-50", "ESC-50-master", *sorted(path.name for path in parent.glob("ESC-50-*"))]
    for name in names:
        if (parent / name / "meta" / "esc50.csv").is_file():
            return parent / name
    raise DatasetError(
        f"{parent} must be the unpacked ESC-50 archive or its parent, but meta/esc50.csv is "
        f"missing. Unpack {URL} there, or omit the directory to download it."
    )


def _fetch(progress: bool) -> Path:
    """Return the cached folder of the unpacked archive; download it if missing."""
    directory = cache_dir() / f"esc50-{COMMIT[:8]}"
    if directory.is_dir():
        return directory
    archive = cache_dir() / f"ESC-50-{COMMIT}.zip"
    record = archive.with_name(archive.name + ".sha256")
    url = os.environ.get("SEMANTICAC_ESC50_URL", URL)
    try:
        trusted = record.read_text().strip() if record.is_file() else None
        digest = download(url, archive, trusted, progress)
        extract_zip(archive, directory, progress)
        record.write_text(f"{digest}\n")
        archive.unlink()
    except ArchiveError as error:
        archive.unlink()
        raise DatasetError(f"{error} It was discarded; run the command again.") from error
    except DigestError as error:
        raise DatasetError(f"{error} Delete {record} to trust the new one.") from error
    except (DownloadError, ValueError) as error:
        raise DatasetError(str(error)) from error
    if digest not in (trusted, ARCHIVE_SHA256):
        print(
            f"warning: {url} is not the expected archive; its SHA-256 {digest} is trusted from now "
            f"on (recorded in {record})",
            file=sys.stderr,
        )
    return directory


def _read_metadata(root: Path) -> list[dict[str, str]]:
    """Return the rows of the official table."""
    return read_official_table(root / "meta" / "esc50.csv", METADATA_SHA256, URL)


def _build(
    name: str,
    licence: str,
    root: Path,
    rows: list[dict[str, str]],
    straddling_sources: frozenset[str],
    progress: bool,
) -> AudioDataset:
    """Check that every clip is there as published, and describe the dataset."""
    audio = root / "audio"
    missing = [row["filename"] for row in rows if not (audio / row["filename"]).is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing):,} of {len(rows):,} clips of {name} are missing in {audio}: "
            f"{name_some(missing)}. Unpack the complete archive there: {URL}."
        )
    rates_hz = map_files(
        lambda row: _checked_rate_hz(audio / row["filename"]),
        rows,
        name_of=lambda row: row["filename"],
        description=f"Checking {name}",
        progress=progress,
    )
    rate_hz = _common_rate_hz([row["filename"] for row in rows], rates_hz, name)
    targets = sorted({(int(row["target"]), row["category"]) for row in rows})
    label_of = {category: label for label, (_, category) in enumerate(targets)}
    clips = tuple(
        _clip(row, audio / row["filename"], label_of[row["category"]], rate_hz) for row in rows
    )
    return AudioDataset(
        name=name,
        labels=tuple(category.replace("_", " ") for category in label_of),
        clips=clips,
        licence=licence,
        citation=_CITATION,
        read=read_clip,
        straddling_sources=straddling_sources,
        copies_at_hz=None if rate_hz == HEADER.sample_rate_hz else rate_hz,
    )


def _clip(row: dict[str, str], path: Path, label: int, rate_hz: int | None = None) -> Clip:
    """Convert a row of the table to a clip."""
    return Clip(
        name=row["filename"],
        label=label,
        fold=int(row["fold"]),
        source=row["src_file"],
        path=path,
        duration_seconds=HEADER.duration_seconds,
        sample_rate_hz=rate_hz,
    )


def _checked_rate_hz(path: Path) -> int:
    """Return a file's sample rate; reject a header that no copy of the archive's files has."""
    header = read_header(path)
    as_published = header == HEADER
    copied = (
        header.sample_rate_hz != HEADER.sample_rate_hz
        and header.num_channels == HEADER.num_channels
        and abs(header.duration_seconds - HEADER.duration_seconds) <= _COPY_TOLERANCE_SECONDS
    )
    if not (as_published or copied):
        raise DatasetError(f"must be {HEADER}, or as long at another rate; received {header}")
    return header.sample_rate_hz


def _common_rate_hz(filenames: list[str], rates_hz: list[int], name: str) -> int:
    """Return the sample rate of all files; reject several."""
    counts = Counter(rates_hz).most_common()
    if len(counts) > 1:
        examples = dict(zip(rates_hz, filenames, strict=True))
        found = [f"{rate:,} Hz ({count:,}, {examples[rate]})" for rate, count in counts]
        raise DatasetError(
            f"Clips of {name} must have one sample rate, because their bandwidth would give the "
            f"class away. Received: {name_some(found)}. Take all from one copy."
        )
    return counts[0][0]
