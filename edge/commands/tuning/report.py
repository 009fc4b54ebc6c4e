"""Printed report of a tuning: tables, and the confidence in them."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edge.commands.tuning.choice import highest_rate
from edge.commands.tuning.trials import Background, Recall
from edge.types import IntArray

Row = list[str]


def curve(background: Background, recall: Recall) -> Iterator[Row]:
    """Yield the rows of a table over thresholds, one wherever a value changes."""
    num_steps, num_labels = background.counts.shape
    other = "wrong label" if background.exclusive else "other label"
    more = ["recall", other] if recall.truth.size else []
    yield ["threshold", "false accepts/h", *more]
    previous: Row = []
    for step in range(num_steps):
        steps = np.full(num_labels, step)
        row = [_per_hour(int(events_at(background, steps).sum()), background.hours)]
        if recall.truth.size:
            row += [f"{share.mean():.1%}" for share in recall.at(steps)]
        if row != previous or step == num_steps - 1:
            yield [f"{background.thresholds[step]:g}", *row]
        previous = row


def choice(
    background: Background, recall: Recall, labels: Sequence[str], steps: IntArray
) -> Iterator[Row]:
    """Yield the rows of a table of each label's threshold, and of all labels together."""
    counts, truth = events_at(background, steps), recall.truth
    yield ["threshold", "false accepts/h", *(["recall"] if truth.size else []), "label"]
    found, wrong = recall.at(steps)
    for index, label in enumerate(labels):
        threshold, events = background.thresholds[steps[index]], int(counts[index])
        row = [f"{threshold:g}", _per_hour(events, background.hours)]
        if truth.size:
            own = found[truth == index]
            row.append(f"{own.sum()}/{own.size}" if own.size else "-")
        yield [*row, label]
    row = ["", _per_hour(int(counts.sum()), background.hours)]
    if truth.size:
        row.append(f"{found.sum()}/{found.size}")
    other = "a wrong" if background.exclusive else "another"
    yield [*row, "all" + (f", {wrong.sum()} with {other} label too" if truth.size else "")]


def cosine_hint(background: Background, recall: Recall) -> str:
    """Suggest a cosine floor that keeps most of the positives' windows."""
    floor = math.floor(100 * float(np.quantile(recall.cosines, 0.05))) / 100
    kept = float(np.mean(recall.cosines >= floor))
    return (
        f"--cosine-floor {floor:.2f} would keep {kept:.0%} of the positives' windows and "
        f"{background.share_reaching(floor):.0%} of the background's; tune again with it to "
        "compare."
    )


def events_at(background: Background, steps: IntArray) -> IntArray:
    """Return int (labels,), the events of each label at its threshold."""
    counts: IntArray = background.counts[steps, np.arange(len(steps))]
    return counts


def _per_hour(events: int, hours: float) -> str:
    return f"{events / hours:.2f}"


def too_many(background: Background, labels: Sequence[str], rate: float) -> str:
    """Name the labels that give too many events at any threshold."""
    left = background.counts[-1]
    worst = sorted(zip(-left, labels, strict=True))[:5]
    named = ", ".join(f"{label} {-count}" for count, label in worst if count)
    hours = background.hours
    remedy = (
        "Set --cosine-floor, --smoothing or --min-seconds, or train the model with these sounds as "
        "a class of their own."
        if background.exclusive
        else "Set --smoothing or --min-seconds, or train the model with these sounds as clips "
        "without a label."
    )
    return (
        f"no file written: even at {background.thresholds[-1]:g} the background gives "
        f"{left.sum() / hours:.3g} events an hour, more than {rate:g} ({named} in {hours:.3g} h). "
        f"{remedy}"
    )


def worth(events: int, hours: float, rate: float) -> str:
    """Return the upper confidence limit of the rate, and a note if it exceeds the target."""
    most = highest_rate(events, hours)
    text = (
        f"false accepts: {events} in {hours:.3g} h; the rate here is below {most:.2g} an hour at "
        "95 % confidence."
    )
    needed = highest_rate(0, 1.0) / rate
    if hours < needed:
        text += (
            f"\nnote: this background is too short to confirm {rate:g} an hour: that takes at "
            f"least {needed:.1f} h, even without a single false accept (rule of three)."
        )
    return text


def format_table(rows: Iterable[Row]) -> str:
    """Return aligned columns, right-justified but for a last column of labels."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    ends_with_label = table[0][-1] == "label"
    lines = []
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([*cells[:-1], row[-1] if ends_with_label else cells[-1]]))
    return "\n".join(lines)
