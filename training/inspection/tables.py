"""The text of an inspection."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.datasets.base import AudioDataset, name_some
from training.inspection.sounds import Sound

_MOST_FOLDS = 10
_NO_LABEL = "(no label)"


def summary(dataset: AudioDataset, sounds: Sequence[Sound]) -> str:
    """Return totals, a table of the classes, and a line about the files' sample rates.

    Args:
        dataset: the dataset.
        sounds: one measurement per clip.
    """
    minutes = sum(clip.duration_seconds for clip in dataset.clips) / 60
    clipped = sum(sound.level.clipped for sound in sounds)
    rates = Counter(clip.sample_rate_hz for clip in dataset.clips).most_common()
    lines = [
        f"{dataset.name}: {len(dataset.clips):,} clips of {len(dataset.labels)} classes in "
        f"{len(dataset.folds)} folds, {minutes:,.1f} minutes",
        "",
        *_aligned(_classes(dataset, sounds)),
        "",
        f"clipped: {clipped:,} clips ({clipped / len(sounds):.1%})",
    ]
    if known := [f"{rate:,} Hz ({count:,})" for rate, count in rates if rate is not None]:
        lines.append(f"sample rates: {name_some(known)}")
    return "\n".join(lines)


def _classes(dataset: AudioDataset, sounds: Sequence[Sound]) -> list[list[str]]:
    """Return a header and one row per class."""
    folds = dataset.folds if len(dataset.folds) <= _MOST_FOLDS else ()
    header = ["class", "clips", "minutes", "min s", "median s", "max s", "dBFS"]
    rows = [[*header, *(f"fold {fold}" for fold in folds)]]
    by_label: dict[str, list[int]] = {text: [] for text in dataset.labels}
    for i, clip in enumerate(dataset.clips):
        for label in clip.labels:
            by_label[dataset.labels[label]].append(i)
        if not clip.labels:
            by_label.setdefault(_NO_LABEL, []).append(i)
    for text, own in by_label.items():
        seconds = np.array([dataset.clips[i].duration_seconds for i in own])
        in_fold = Counter(dataset.clips[i].fold for i in own)
        rms = max(float(np.median([sounds[i].level.rms for i in own])), 1e-10)
        rows.append(
            [
                text,
                f"{len(own):,}",
                f"{seconds.sum() / 60:.1f}",
                *(f"{value:.2f}" for value in (seconds.min(), np.median(seconds), seconds.max())),
                f"{20 * np.log10(rms):.0f}",
                *(str(in_fold[fold]) for fold in folds),
            ]
        )
    return rows


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
