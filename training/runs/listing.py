"""The clips that a run was started with, to notice when the data have changed."""

from collections.abc import Mapping
from typing import Any

from training.datasets import AudioDataset
from training.datasets.base import name_some

# By clip name: label text, fold, and size in bytes (without a file, the duration in seconds).
Listing = dict[str, list[Any]]


def listing(dataset: AudioDataset) -> Listing:
    """Return label, fold and size of each clip, by its name."""
    return {
        clip.name: [
            dataset.labels[clip.label],
            clip.fold,
            clip.path.stat().st_size if clip.path else clip.duration_seconds,
        ]
        for clip in dataset.clips
    }


def describe_changes(before: Mapping[str, list[Any]], now: Mapping[str, list[Any]]) -> str:
    """Describe in one line how a listing has changed; empty if it has not."""
    both = before.keys() & now.keys()
    groups = {
        "added": now.keys() - before.keys(),
        "removed": before.keys() - now.keys(),
        "relabelled": {name for name in both if before[name][0] != now[name][0]},
        "moved to another fold": {name for name in both if before[name][1] != now[name][1]},
        "replaced": {name for name in both if before[name][2] != now[name][2]},
    }
    return "; ".join(
        f"{len(names):,} {change} ({name_some(sorted(names))})"
        for change, names in groups.items()
        if names
    )
