"""Building of a corpus: fetch and decode each source, choose recordings, write the shards."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge.files import replacing
from edge.types import FloatArray
from training.corpus.classes import classifier
from training.corpus.decoding import VERSION
from training.corpus.exclusion import (
    THRESHOLD,
    best_similarities,
    named_recordings,
    numbers_in,
    read_clips,
)
from training.corpus.fetching import DEBIAN_MIRROR
from training.corpus.reader import INDEX, RECEIPT, Recording, write_index
from training.corpus.selection import choose, copies, within_shares
from training.corpus.shards import lay_out, write_attribution, write_shards, write_table
from training.corpus.sources import CorpusError, Source
from training.corpus.store import Store, Stored, store
from training.inspection.fingerprints import Fingerprint

TABLE = "sources.csv"
ATTRIBUTION = "ATTRIBUTION.md"
BAD_FILES = "bad_files.txt"
WORK = "work"
_SIMILARITIES = "similarities.npz"


@dataclass(frozen=True)
class Plan:
    """How to build a corpus.

    Args:
        sources: entries of the manifest.
        out: directory of the corpus.
        all_sources: whether to use sources whose licence does not let weights ship.
        exclude_clips: folders of clips that no recording may hold.
        tagger: `.tflite` file of a tagger with AudioSet's classes, if any.
        shares: from a kind to its largest share of the hours.
        debian_mirror: address of a Debian mirror.
        workers: number of threads that decode.
    """

    sources: Sequence[Source]
    out: Path
    all_sources: bool = False
    exclude_clips: Sequence[Path] = ()
    tagger: Path | None = None
    shares: Mapping[str, float] = field(default_factory=lambda: {"music": 0.15, "speech": 0.15})
    debian_mirror: str = DEBIAN_MIRROR
    workers: int = 1


def build(plan: Plan, progress: bool = False) -> list[str]:
    """Build a corpus, or continue a build that was stopped.

    A source that cannot be fetched, and a file that cannot be used, are listed in `bad_files.txt`.

    Args:
        plan: how to build it.
        progress: whether to show progress bars on stderr.

    Returns:
        Lines about sources that could not be used.

    Raises:
        CorpusError: if nothing can be built.
        OSError: if a file cannot be written, as on a full disk.
    """
    sources = [source for source in plan.sources if source.may_ship or plan.all_sources]
    if not sources:
        raise CorpusError(
            "No source's licence lets weights ship. Add --all-sources to use the others."
        )
    work = plan.out / WORK
    work.mkdir(parents=True, exist_ok=True)
    classify, tagger_sha256 = (None, "") if plan.tagger is None else classifier(plan.tagger)
    if missing := [folder for folder in plan.exclude_clips if not folder.is_dir()]:
        raise CorpusError(f"{missing[0]}, a folder of clips to exclude, does not exist.")
    stores, failures = [], []
    for source in sources:
        try:
            stores.append(
                store(
                    *(source, work, plan.debian_mirror, classify, tagger_sha256),
                    *(plan.workers, progress),
                )
            )
        except CorpusError as error:
            failures.append(" ".join(str(error).split()))
    recordings, named = _without_named(stores)
    if not recordings:
        raise CorpusError(f"No source has a usable sound: {failures[0] if failures else sources}.")
    (plan.out / RECEIPT).unlink(missing_ok=True)  # from here on there is no complete corpus
    duplicates = copies(recordings, progress)
    chosen = [choose(one) for index, one in enumerate(recordings) if index not in duplicates]
    chosen = within_shares(chosen, plan.shares)
    clips = read_clips(plan.exclude_clips, progress)
    similarities = _similarities([one.stored.track for one in chosen], clips, work, progress)
    held = [one for one, found in zip(chosen, similarities, strict=True) if found >= THRESHOLD]
    chosen = [one for one, found in zip(chosen, similarities, strict=True) if found < THRESHOLD]
    chosen = within_shares(chosen, plan.shares)
    if not chosen:
        raise CorpusError("No recording remains; see the shares and the excluded clips.")
    placed = lay_out(chosen)
    write_shards(plan.out, chosen, placed, {one.source.name: one for one in stores}, progress)
    removed = [*named, *(f"{_name(one.stored)}: holds an excluded clip" for one in held)]
    _write_lists(plan.out, placed, stores, [*failures, *removed])
    receipt = _receipt(plan, stores, placed, len(duplicates), len(held), len(clips))
    with replacing(plan.out / RECEIPT) as temporary:
        temporary.write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
    return failures


def summary(out: Path, recordings: Sequence[Recording]) -> list[str]:
    """Return lines about the hours of each kind in a corpus."""
    seconds: dict[str, float] = {}
    for one in recordings:
        seconds[one.kind] = seconds.get(one.kind, 0.0) + one.seconds
    total = sum(seconds.values())
    lines = [f"{out}: {len(recordings):,} recordings, {total / 3600:.2f} h"]
    for kind, length in sorted(seconds.items(), key=lambda item: -item[1]):
        lines.append(f"  {kind:10} {length / 3600:6.2f} h {length / total:6.1%}")
    return lines


def _without_named(stores: Sequence[Store]) -> tuple[list[Stored], list[str]]:
    """Return the recordings that have no excluded number, and lines about the others."""
    kept, lines = [], []
    for one in stores:
        named = named_recordings([recording.path for recording in one.recordings], one.credits)
        for recording in one.recordings:
            if reason := named.get(recording.path):
                lines.append(f"{_name(recording)}: excluded, {reason}")
            else:
                kept.append(recording)
        if numbers := numbers_in(one.credits):
            lines.append(f"{one.source.name}: credits excluded recordings {', '.join(numbers)}")
    return kept, lines


def _similarities(
    tracks: Sequence[Fingerprint], clips: Sequence[Fingerprint], work: Path, progress: bool
) -> FloatArray:
    """Return the largest similarities to the clips; those of an earlier build are read."""
    if not clips:
        return np.zeros(len(tracks), np.float32)
    clips_digest = _digest(np.stack(clips))
    digests = [_digest(track) for track in tracks]
    known: dict[str, float] = {}
    path = work / _SIMILARITIES
    if path.is_file():
        with np.load(path) as content:
            if str(content["clips"]) == clips_digest:
                known = dict(
                    zip(content["digests"].tolist(), content["values"].tolist(), strict=True)
                )
    new = [i for i, digest in enumerate(digests) if digest not in known]
    found = best_similarities([tracks[i] for i in new], clips, progress)
    known.update(zip([digests[i] for i in new], found.tolist(), strict=True))
    with replacing(path) as temporary:
        np.savez(
            temporary,
            clips=np.array(clips_digest),
            digests=np.array(list(known)),
            values=np.array(list(known.values()), np.float32),
        )
    return np.array([known[digest] for digest in digests], np.float32)


def _digest(cells: Fingerprint) -> str:
    return hashlib.sha256(np.ascontiguousarray(cells).tobytes()).hexdigest()


def _name(recording: Stored) -> str:
    return f"{recording.source.name}: {recording.path}"


def _write_lists(
    out: Path, recordings: Sequence[Recording], stores: Sequence[Store], others: Sequence[str]
) -> None:
    """Write all files of a corpus but its shards and its receipt."""
    with replacing(out / INDEX) as temporary:
        write_index(temporary, recordings)
    with replacing(out / TABLE) as temporary:
        write_table(temporary, recordings, stores)
    with replacing(out / ATTRIBUTION) as temporary:
        write_attribution(temporary, recordings, stores)
    lines = [f"{one.source.name}: {problem}" for one in stores for problem in one.problems]
    with replacing(out / BAD_FILES) as temporary:
        text = "".join(f"{line}\n" for line in (*others, *lines))
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _receipt(
    plan: Plan,
    stores: Sequence[Store],
    recordings: Sequence[Recording],
    num_copies: int,
    num_held: int,
    num_clips: int,
) -> dict[str, object]:
    """Return what describes a corpus for whoever trains on it."""
    used = {recording.source for recording in recordings}
    sources = [one.source for one in stores if one.source.name in used]
    index = (plan.out / INDEX).read_bytes()
    return {
        "hours": round(sum(recording.seconds for recording in recordings) / 3600, 3),
        "recordings": len(recordings),
        "may_ship": all(source.may_ship for source in sources),
        "index_sha256": hashlib.sha256(index).hexdigest(),
        "decoder_version": VERSION,
        "tagger": plan.tagger is not None,
        "shares": dict(plan.shares),
        "copies_left_out": num_copies,
        "clips_to_exclude": num_clips,
        "recordings_with_excluded_clips": num_held,
        "sources": {source.name: source.key for source in sources},
    }
