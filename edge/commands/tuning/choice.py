"""Thresholds for a number of false events that is allowed, and what such a number is worth."""

import math

import numpy as np

from edge.types import IntArray


def lowest_thresholds(counts: IntArray, allowed: int) -> IntArray | None:
    """The lowest threshold for each label so that all events together are few enough.

    All labels come down together, step by step. One whose next step would make the events too
    many stays where it is, while the others go on. A label's events at a threshold are taken as
    the most at that or any higher one: a low threshold may merge what a higher one tells apart.

    Args:
        counts: events on the background, (thresholds, labels), thresholds ascending.
        allowed: events of all labels together.

    Returns:
        Index of each label's threshold, (labels,); None if there are too many events even at the
        highest.
    """
    most = np.maximum.accumulate(counts[::-1])[::-1]
    num_thresholds, num_labels = counts.shape
    steps = np.full(num_labels, num_thresholds - 1)
    total = int(most[-1].sum())
    if total > allowed:
        return None
    moving = np.ones(num_labels, bool)
    for step in range(num_thresholds - 2, -1, -1):
        added = most[step] - most[step + 1]
        # The cheapest first, so that as many as possible come along.
        for label in np.argsort(added, kind="stable"):
            moving[label] &= total + added[label] <= allowed
            if moving[label]:
                steps[label] = step
                total += int(added[label])
    return steps


def highest_rate(num_events: int, hours: float, confidence: float = 0.95) -> float:
    """What the true rate may be, given what was seen: the upper limit for a Poisson process.

    For no event it is 3 / hours at 95 %, the rule of three.

    Args:
        num_events: events seen.
        hours: time watched, above 0.
        confidence: how sure to be that the rate is not higher.

    Returns:
        Events an hour.
    """
    low, high = 0.0, 10.0 + 2.0 * num_events + 10.0 * math.sqrt(num_events)
    log_counts = np.log(np.arange(1, num_events + 1))
    for _ in range(60):
        mean = (low + high) / 2
        log_terms = np.append(0.0, np.cumsum(np.log(mean) - log_counts)) - mean
        if np.exp(log_terms).sum() > 1 - confidence:
            low = mean
        else:
            high = mean
    return high / hours
