"""Comparison of a reproduced model with the packaged one."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from edge.types import FloatArray, IntArray
from training.release.folds import relevant_fields
from training.runs.run import flat_differences

# Equal recipes and seeds give slightly different weights: threads add in a varying order.
MOST_ACCURACY_DIFFERENCE = 0.03
LEAST_SAME_LABELS = 0.95
MOST_SCORE_DIFFERENCE = 0.05


class Row(NamedTuple):
    """Row of the comparison.

    Args:
        what: compared quantity.
        shipped: value of the packaged model.
        made: value of the reproduced model.
        tolerance: permitted difference.
        fits: whether the difference is within the tolerance.
    """

    what: str
    shipped: str
    made: str
    tolerance: str
    fits: bool


class Scores(NamedTuple):
    """Scores of both models on the same clips.

    Args:
        shipped: scores of the packaged model, (clips, labels).
        made: scores of the reproduced model, (clips, labels).
        truth: label of each clip, (clips,).
    """

    shipped: FloatArray
    made: FloatArray
    truth: IntArray


def compare(
    shipped: Mapping[str, Any], made: Mapping[str, Any], scores: Scores | None, most_bytes: int
) -> Iterator[Row]:
    """Yield the comparison of all reproducible quantities.

    Args:
        shipped: figures of the packaged model.
        made: figures of the reproduced model.
        scores: scores of both on all clips; None if their labels differ.
        most_bytes: maximum size of either bundle.
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
        float(np.mean(values.argmax(axis=1) == scores.truth))
        for values in (scores.shipped, scores.made)
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
    """Compare false accepts, if both were measured on the same sounds."""
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
