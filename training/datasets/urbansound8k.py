"""UrbanSound8K: city sounds of up to four seconds in ten official folds.

Source: J. Salamon, C. Jacoby and J. P. Bello, A Dataset and Taxonomy for Urban Sound Research, ACM
Multimedia 2014.
"""

import os
from pathlib import Path

from semanticac_keras.download import (
    DownloadError,
    cache_dir,
    check_space,
    download,
    extract_tar,
    os_reason,
)
from semanticac_keras.sound_files import read_header
from training.datasets.audio import read_clip
from training.datasets.base import (
    AudioDataset,
    Clip,
    DatasetError,
    map_files,
    read_official_table,
)

URL = "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz"
ARCHIVE_MD5 = "9aa69802bbf37fb986f71ec1483a196e"  # Zenodo publishes no other digest.
METADATA_SHA256 = "b207f7a53f9e5eb02a5dd71d58fb8b66c88c24c0637b926dc72d9d400a6a2354"
# The archive (6 GB) and its clips (about 7 GB) coexist until the archive is removed.
DISK_BYTES = 14 * 10**9
# The official folds separate clips of five recordings, each cut into two classes (drilling and
# jackhammer, siren and engine). Changing them would make results incomparable.
STRADDLING_SOURCES = frozenset({"106905", "132016", "176638", "180937", "77751"})

_CITATION = (
    "J. Salamon, C. Jacoby and J. P. Bello. A Dataset and Taxonomy for Urban Sound Research. "
    "ACM Multimedia 2014. https://doi.org/10.1145/2647868.2655045"
)


def load(data_dir: Path | None, progress: bool) -> AudioDataset:
    """Return UrbanSound8K: 8,732 clips of 10 classes.

    Clips are 0.05 to 4 s long and have the channels, sample rate and encoding of their source.

    Args:
        data_dir: folder of the unpacked official archive or its parent. None downloads the archive
            into the cache, from `$SEMANTICAC_US8K_URL` if set. The clips may also be copies at
            one sample rate.
        progress: whether to show progress bars on stderr.

    Raises:
        DatasetError: if the archive cannot be downloaded, or clips are missing or damaged.
    """
    root = _locate(_fetch(progress) if data_dir is None else data_dir)
    rows = _read_metadata(root)
    paths = [root / "audio" / f"fold{row['fold']}" / row["slice_file_name"] for row in rows]
    try:
        headers = map_files(
            read_header,
            paths,
            name_of=lambda path: path.name,
            description="Checking us8k",
            progress=progress,
        )
    except DatasetError as error:
        raise DatasetError(f"{root}: {error} Unpack the complete archive there: {URL}.") from error
    classes = [name for _, name in sorted({(int(row["classID"]), row["class"]) for row in rows})]
    clips = tuple(
        Clip(
            name=row["slice_file_name"],
            label=classes.index(row["class"]),
            fold=int(row["fold"]),
            source=row["fsID"],
            path=path,
            duration_seconds=header.duration_seconds,
            sample_rate_hz=header.sample_rate_hz,
        )
        for row, path, header in zip(rows, paths, headers, strict=True)
    )
    rates_hz = {header.sample_rate_hz for header in headers}  # the published clips have many
    return AudioDataset(
        name="us8k",
        labels=tuple(name.replace("_", " ") for name in classes),
        clips=clips,
        licence="CC BY-NC 3.0",
        citation=_CITATION,
        read=read_clip,
        straddling_sources=STRADDLING_SOURCES,
        copies_at_hz=rates_hz.pop() if len(rates_hz) == 1 else None,
    )


def _locate(parent: Path) -> Path:
    """Return the folder with `metadata` and `audio`."""
    for root in (parent, parent / "UrbanSound8K"):
        if (root / "metadata" / "UrbanSound8K.csv").is_file():
            return root
    raise DatasetError(
        f"{parent} must be the unpacked UrbanSound8K archive or its parent, but "
        f"metadata/UrbanSound8K.csv is missing. Unpack {URL} there, or omit the directory to "
        "download it."
    )


def _fetch(progress: bool) -> Path:
    """Return the cached folder of the unpacked archive; download it if missing."""
    cache = cache_dir()
    directory, archive = cache / "urbansound8k", cache / "UrbanSound8K.tar.gz"
    if directory.is_dir():
        return directory
    url = os.environ.get("SEMANTICAC_US8K_URL", URL)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        there_bytes = sum(path.stat().st_size for path in cache.glob(f"{archive.name}*"))
        check_space(cache, DISK_BYTES - there_bytes)
        download(url, archive, progress=progress, md5=ARCHIVE_MD5)
        extract_tar(archive, directory, progress)
        archive.unlink()
    except (DownloadError, ValueError) as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise DatasetError(os_reason(error, directory)) from error
    return directory


def _read_metadata(root: Path) -> list[dict[str, str]]:
    """Return the rows of the official table."""
    return read_official_table(root / "metadata" / "UrbanSound8K.csv", METADATA_SHA256, URL)
