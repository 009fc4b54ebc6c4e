"""Warnings about a dataset: what makes its accuracy misleading, or its training harder."""

import sys
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from training.datasets.base import AudioDataset, name_some
from training.inspection.fingerprints import Pair
from training.inspection.sounds import Level, Sound

MIN_CLIPS = 10
MAX_IMBALANCE = 10.0
QUIET_DBFS = -60.0
MAX_OFFSET = 0.01
MAX_CLIPPED_SHARE = 0.1

# A property of the files gives classes away if guessing from it is right this much more often than
# guessing blindly, and if shuffled labels are hardly ever guessed as well.
_GUESS_RATIO = 1.25
_SHUFFLES = 200
_MAX_LUCKY_SHUFFLES = 4


def print_warnings(program: str, dataset: AudioDataset) -> None:
    """Print the warnings about a dataset that need no decoding to stderr.

    Args:
        program: name of the command, the start of each line.
        dataset: dataset to check.
    """
    for warning in warnings_for(dataset):
        print(f"{program}: warning: {warning}", file=sys.stderr)


def warnings_for(dataset: AudioDataset) -> list[str]:
    """Return warnings about labels, folds and file headers, without decoding anything.

    Args:
        dataset: dataset to check.

    Returns:
        One line each, without "warning:".
    """
    found = [*_balance(dataset), *_folds(dataset), *_giveaways(dataset)]
    if dataset.copies_note:
        found.append(dataset.copies_note)
    return found


def sound_warnings(
    dataset: AudioDataset, sounds: Sequence[Sound], pairs: Iterable[Pair]
) -> list[str]:
    """Return warnings about what the clips contain.

    Args:
        dataset: the dataset.
        sounds: one measurement per clip.
        pairs: clips that sound the same.

    Returns:
        One line each, without "warning:".
    """
    levels = [sound.level for sound in sounds]
    return [
        *_levels(dataset, levels),
        *_clipping(dataset, levels),
        *_equal_clips(dataset, levels),
        *_similar_clips(dataset, levels, pairs),
    ]


def guess_rate(values: Sequence[Hashable], labels: Sequence[int]) -> float:
    """Return how often a class is guessed from a property of its clips, each class counting alike.

    Args:
        values: the property of each clip.
        labels: class of each clip.

    Returns:
        Share of right guesses; 1 / number of classes if the property says nothing.
    """
    sizes, cells = Counter(labels), Counter(zip(values, labels, strict=True))
    best: dict[Hashable, float] = defaultdict(float)
    for (value, label), count in cells.items():
        best[value] = max(best[value], count / sizes[label])
    return sum(best.values()) / len(sizes)


def gives_away(values: Sequence[Hashable], labels: Sequence[int]) -> bool:
    """Return whether a property of the clips tells their classes better than by chance."""
    rate = guess_rate(values, labels)
    if rate * len(set(labels)) < _GUESS_RATIO:
        return False
    rng = np.random.default_rng(0)
    lucky = sum(
        guess_rate(values, rng.permutation(labels).tolist()) >= rate - 1e-9
        for _ in range(_SHUFFLES)
    )
    return lucky <= _MAX_LUCKY_SHUFFLES


def _balance(dataset: AudioDataset) -> list[str]:
    """Warn of small classes and of large differences in size."""
    found = []
    sizes = Counter(label for clip in dataset.clips for label in clip.labels)
    if few := [
        f"{text} ({sizes[label]})"
        for label, text in enumerate(dataset.labels)
        if sizes[label] < MIN_CLIPS
    ]:
        found.append(f"fewer than {MIN_CLIPS} clips: {name_some(few)}; an accuracy means little")
    (largest, most), *_, (smallest, fewest) = sizes.most_common()
    if most > MAX_IMBALANCE * fewest:
        found.append(
            f"{dataset.labels[largest]} has {most / fewest:.0f} times as many clips as "
            f"{dataset.labels[smallest]}; look at the accuracy of each class, not only of all clips"
        )
    return found


def _folds(dataset: AudioDataset) -> list[str]:
    """Warn of folds in which a class is not tested."""
    present = {(label, clip.fold) for clip in dataset.clips for label in clip.labels}
    absent = [
        f"{text} ({', '.join(map(str, missing))})"
        for label, text in enumerate(dataset.labels)
        if (missing := [fold for fold in dataset.folds if (label, fold) not in present])
    ]
    if not absent:
        return []
    return [f"classes without clips in some folds, so not tested there: {name_some(absent)}"]


def _giveaways(dataset: AudioDataset) -> list[str]:
    """Warn of properties of the files from which the class can be guessed.

    Clips with the same labels, if there are several or none, count as a class.
    """
    groups = {clip.labels: i for i, clip in enumerate(dataset.clips)}
    labels = [groups[clip.labels] for clip in dataset.clips]
    rates = [f"{clip.sample_rate_hz or 0:,} Hz" for clip in dataset.clips]
    formats = [clip.path.suffix.lower() if clip.path else "" for clip in dataset.clips]
    found = []
    for what, values in (("sample rate", rates), ("file format", formats)):
        if gives_away(values, labels):
            share, chance = guess_rate(values, labels), 1 / len(groups)
            found.append(
                f"the {what} alone gives the class away: a guess from it is right for {share:.0%} "
                f"(by chance: {chance:.0%}); a model may learn the bandwidth instead of the sound. "
                f"Most common: {_most_common(dataset, values)}"
            )
    return found


def _most_common(dataset: AudioDataset, values: Sequence[str]) -> str:
    """Name the most common value in each class."""
    by_label: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for clip, value in zip(dataset.clips, values, strict=True):
        for label in clip.labels:
            by_label[label][value] += 1
    return name_some(
        [
            f"{text} {by_label[label].most_common(1)[0][0]}"
            for label, text in enumerate(dataset.labels)
        ]
    )


def _levels(dataset: AudioDataset, levels: Sequence[Level]) -> list[str]:
    """Warn of silent and of shifted clips."""
    quiet_peak = 10 ** (QUIET_DBFS / 20)
    conditions = {
        "have no sound at all (all samples are equal)": [level.constant for level in levels],
        f"are nowhere above {QUIET_DBFS:.0f} dBFS": [
            not level.constant and level.peak < quiet_peak for level in levels
        ],
        f"have a DC offset beyond {MAX_OFFSET}": [
            not level.constant and abs(level.offset) > MAX_OFFSET for level in levels
        ],
    }
    return [
        f"{len(names):,} of {len(levels):,} clips {what}: {name_some(names)}"
        for what, flags in conditions.items()
        if (names := [c.name for c, flag in zip(dataset.clips, flags, strict=True) if flag])
    ]


def _clipping(dataset: AudioDataset, levels: Sequence[Level]) -> list[str]:
    """Warn if many clips are clipped."""
    names = [clip.name for clip, level in zip(dataset.clips, levels, strict=True) if level.clipped]
    if len(names) <= MAX_CLIPPED_SHARE * len(levels):
        return []
    return [
        f"{len(names):,} of {len(levels):,} clips are clipped (equal samples at full scale): "
        f"{name_some(names)}; record with less gain"
    ]


def equal_groups(levels: Sequence[Level]) -> list[list[int]]:
    """Return the indices of clips with the same samples, except silence, in groups."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, level in enumerate(levels):
        if not level.constant:
            groups[level.content].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _equal_clips(dataset: AudioDataset, levels: Sequence[Level]) -> list[str]:
    """Warn of clips with the same samples."""
    kinds: Mapping[str, list[str]] = {
        "under several labels": [],
        "in several folds, so that a test repeats what was trained": [],
        "in one fold": [],
    }
    several_labels, several_folds, one_fold = kinds.values()
    for group in equal_groups(levels):
        clips = [dataset.clips[index] for index in group]
        text = " = ".join(clip.name for clip in clips)
        if len({clip.labels for clip in clips}) > 1:
            several_labels.append(text)
        elif len({clip.fold for clip in clips}) > 1:
            several_folds.append(text)
        else:
            one_fold.append(text)
    return [
        f"the same samples {where} ({len(texts):,}): {name_some(texts)}"
        for where, texts in kinds.items()
        if texts
    ]


def _similar_clips(
    dataset: AudioDataset, levels: Sequence[Level], pairs: Iterable[Pair]
) -> list[str]:
    """Warn of copies under two labels and of copies in two folds."""
    labels, folds = [], []
    for first, second, similarity in pairs:
        if levels[first].content == levels[second].content:
            continue
        one, other = dataset.clips[first], dataset.clips[second]
        text = f"{one.name} ~ {other.name} ({similarity:.2f})"
        if one.labels != other.labels:
            labels.append(text)
        elif one.fold != other.fold:
            folds.append(text)
    found = []
    if labels:
        found.append(f"the same sound under two labels ({len(labels):,}): {name_some(labels)}")
    if folds:
        found.append(
            f"the same sound in two folds ({len(folds):,}), so that a test repeats what was "
            f"trained: {name_some(folds)}; give such clips one `source` in a CSV file"
        )
    return found
