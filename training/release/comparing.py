"""A model that was made again, beside the one that is shipped."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from edge.types import FloatArray, IntArray
from training.release.folds import relevant_fields
from training.runs.run import flat_differences

# Two trainings with one recipe and seed do not give the same weights: threads add in another order.
MOST_ACCURACY_DIFFERENCE = 0.03
LEAST_SAME_LABELS = 0.95
MOST_SCORE_DIFFERENCE = 0.05


class Row(NamedTuple):
    """A line of the comparison.

    Args:
        what: is compared.
        shipped: of the shipped model.
        made: of the new one.
        tolerance: how much may differ.
        fits: whether no more does.
    """

    what: str
    shipped: str
    made: str
    tolerance: str
    fits: bool


class Scores(NamedTuple):
    """What both models say of the same clips.

    Args:
        shipped: (clips, labels).
        made: (clips, labels).
        truth: label of each clip, (clips,).
    """

    shipped: FloatArray
    made: FloatArray
    truth: IntArray


def compare(
    shipped: Mapping[str, Any], made: Mapping[str, Any], scores: Scores | None, most_bytes: int
) -> Iterator[Row]:
    """Compare all that must not depend on who makes it.

    Args:
        shipped: figures of the shipped model.
        made: figures of the new one.
        scores: of both on all clips; None if their labels differ.
        most_bytes: size that neither may exceed.
    """
    yield _same("data, SHA-256", shipped["data"]["sha256"][:12], made["data"]["sha256"][:12])
    recipes = (relevant_fields(figures["recipe"]) for figures in (shipped, made))
    differences = flat_differences(*recipes)
    names = ", ".join(name for name, _, _ in differences)
    yield Row("recipe", "", f"other {names}" if names else "the same", "none", not names)
    before, now = shipped["bundle"]["bytes"], made["bundle"]["bytes"]
    limit = f"at most {most_bytes:,}"
    yield Row("bytes", f"{before:,}", f"{now:,}", limit, max(before, now) <= most_bytes)
    if scores is None:
        yield Row("scores", "", "other labels", "none", False)
    else:
        yield from _compare_scores(scores)
    yield _compare_rates(shipped["others"], made["others"])


def _compare_scores(scores: Scores) -> Iterator[Row]:
    before, now = (
        float(np.mean(given.argmax(axis=1) == scores.truth))
        for given in (scores.shipped, scores.made)
    )
    yield Row(
        "right on the training clips",
        f"{before:.1%}",
        f"{now:.1%}",
        f"at most {100 * MOST_ACCURACY_DIFFERENCE:g} points",
        abs(before - now) <= MOST_ACCURACY_DIFFERENCE,
    )
    same = float(np.mean(scores.shipped.argmax(axis=1) == scores.made.argmax(axis=1)))
    yield Row(
        "clips with the same label",
        "",
        f"{same:.1%}",
        f"at least {LEAST_SAME_LABELS:.0%}",
        same >= LEAST_SAME_LABELS,
    )
    mean = float(np.abs(scores.shipped - scores.made).mean())
    yield Row(
        "mean difference of a score",
        "",
        f"{mean:.3f}",
        f"at most {MOST_SCORE_DIFFERENCE:g}",
        mean <= MOST_SCORE_DIFFERENCE,
    )


def _compare_rates(shipped: Mapping[str, Any], made: Mapping[str, Any]) -> Row:
    """False accepts, which only the same sounds make comparable."""
    before, now = (figures["tested"] for figures in (shipped, made))
    tolerance, fits = "other sounds: not compared", True
    if shipped["sha256"] == made["sha256"]:
        (low, high), (other_low, other_high) = before["per_hour_interval"], now["per_hour_interval"]
        tolerance, fits = "95 % intervals overlap", max(low, other_low) <= min(high, other_high)
    return Row("false accepts an hour", _rate(before), _rate(now), tolerance, fits)


def _rate(tested: Mapping[str, Any]) -> str:
    low, high = tested["per_hour_interval"]
    return f"{tested['per_hour']:.0f} ({low:.0f} to {high:.0f})"


def _same(what: str, shipped: str, made: str) -> Row:
    return Row(what, shipped, made, "none", shipped == made)
