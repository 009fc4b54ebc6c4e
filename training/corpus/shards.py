"""Writing of a corpus's shards, its index and its tables."""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from edge.files import replacing
from semanticac_keras.download import check_space
from semanticac_keras.progress import progress_bar
from training.corpus.reader import SHARDS, Recording, shard_path
from training.corpus.selection import Chosen
from training.corpus.store import Store

# 256 MiB each, but for a longer recording.
SHARD_SAMPLES = 1 << 27

_SAMPLE_BYTES = 2
# Words of paths that say nothing of the sound.
_WORDLESS = frozenset(
    (
        *(
            "usr",
            "share",
            "games",
            "game",
            "lib",
            "data",
            "base",
            "main",
            "src",
            "public",
            "common",
        ),
        *("resources", "resource", "res", "assets", "asset", "media", "files", "file", "default"),
        *("sounds", "sound", "audio", "snd", "sfx", "fx", "effects", "effect", "samples", "sample"),
        *("ogg", "wav", "flac", "mp3", "oga", "opus", "raw", "loop", "mono", "stereo", "misc"),
        *("pk", "wz", "zip", "unpacked", "minecraft", "the", "and", "of", "doc"),
    )
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+")
_MOST_WORDS = 12
_COLUMNS = (
    *("source", "origin", "split", "recordings", "hours", "kinds", "licence"),
    *("weights_may_ship", "note"),
)


def text_of(path: str) -> str:
    """Return the words of a path's last two folders and name, as a text for the sound.

    Digits, and words that nearly every path has, are left out, and no word repeats.
    """
    parts = PurePosixPath(path).with_suffix("").parts[-3:]
    words = (word.lower() for part in parts for word in _WORD.findall(part))
    kept = dict.fromkeys(word for word in words if word not in _WORDLESS and len(word) > 1)
    return " ".join(list(kept)[-_MOST_WORDS:])


def lay_out(chosen: Sequence[Chosen]) -> list[Recording]:
    """Assign each recording a place in a shard, in order."""
    recordings = []
    shard = start = 0
    for one in chosen:
        if start and start + one.length > SHARD_SAMPLES:
            shard, start = shard + 1, 0
        recordings.append(
            Recording(
                source=one.stored.source.name,
                path=one.stored.path,
                text=text_of(one.stored.path),
                kind=one.kind,
                split="held-out" if one.stored.source.held_out else "train",
                file_rate_hz=one.stored.file_rate_hz,
                shard=shard,
                start=start,
                length=one.length,
            )
        )
        start += one.length
    return recordings


def write_shards(
    out: Path,
    chosen: Sequence[Chosen],
    recordings: Sequence[Recording],
    stores: Mapping[str, Store],
    progress: bool,
) -> None:
    """Write the shards, and remove those of an earlier build.

    Args:
        out: directory of the corpus.
        chosen: parts of the stored recordings.
        recordings: their places, from `lay_out`.
        stores: decoded sounds, by the source's name.
        progress: whether to show a progress bar on stderr.

    Raises:
        OSError: if a file cannot be written, as on a full disk.
    """
    lengths: dict[int, int] = defaultdict(int)
    members: dict[int, list[int]] = defaultdict(list)
    for index, recording in enumerate(recordings):
        lengths[recording.shard] += recording.length
        members[recording.shard].append(index)
    (out / SHARDS).mkdir(parents=True, exist_ok=True)
    for old in (out / SHARDS).glob("*.npy"):
        old.unlink()
    check_space(out, _SAMPLE_BYTES * sum(lengths.values()))
    samples = {name: store.samples() for name, store in stores.items()}
    with progress_bar("Writing shards", len(lengths), enabled=progress) as advance:
        for shard, length in lengths.items():
            with replacing(shard_path(out, shard)) as temporary, temporary.open("wb") as file:
                header = {"descr": "<i2", "fortran_order": False, "shape": (length,)}
                np.lib.format.write_array_header_1_0(file, header)
                for index in members[shard]:
                    one = chosen[index]
                    source = samples[one.stored.source.name]
                    source[one.start : one.start + one.length].tofile(file)
            advance(1)


def write_table(path: Path, recordings: Sequence[Recording], stores: Sequence[Store]) -> None:
    """Write a CSV table of the sources: hours in the corpus, kinds, licence, what it allows."""
    seconds: dict[str, dict[str, float]] = {store.source.name: {} for store in stores}
    for one in recordings:
        kinds = seconds[one.source]
        kinds[one.kind] = kinds.get(one.kind, 0.0) + one.seconds
    counts = dict.fromkeys(seconds, 0)
    for one in recordings:
        counts[one.source] += 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for store in stores:
            source, kinds = store.source, seconds[store.source.name]
            ordered = sorted(kinds.items(), key=lambda item: -item[1])
            writer.writerow(
                (
                    source.name,
                    source.origin,
                    "held-out" if source.held_out else "train",
                    counts[source.name],
                    f"{sum(kinds.values()) / 3600:.3f}",
                    "; ".join(f"{kind} {length / 3600:.3f}" for kind, length in ordered),
                    source.licence,
                    "yes" if source.may_ship else "no",
                    source.note,
                )
            )


def write_attribution(path: Path, recordings: Sequence[Recording], stores: Sequence[Store]) -> None:
    """Write where the sounds of a corpus come from, with the sources' own credits in full."""
    used = {recording.source for recording in recordings}
    with path.open("w", encoding="utf-8", errors="replace") as file:
        file.write("# Sources of this corpus\n")
        for store in stores:
            source = store.source
            if source.name not in used:
                continue
            file.write(f"\n## {source.name}\n\n{source.origin}. Licence: {source.licence}.\n")
            if source.note:
                file.write(f"{source.note}\n")
            for name, text in store.credits.items():
                fence = "````"
                file.write(f"\n### {source.name}: {name}\n\n{fence}\n{text.rstrip()}\n{fence}\n")
