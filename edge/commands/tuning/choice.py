"""Lowest thresholds for an allowed number of false events, and confidence limits of a rate."""

import math

import numpy as np

from edge.types import IntArray


def lowest_thresholds(counts: IntArray, allowed: int) -> IntArray | None:
    """Find the lowest threshold of each label at which the total number of events is allowed.

    All labels descend together, step by step. A label stops when its next step would give too many
    events; the others continue. The count at a threshold is the maximum over it and all higher
    ones, since a low threshold may merge events that a higher one separates.

    Args:
        counts: int (thresholds, labels), events on the background, thresholds ascending.
        allowed: total events of all labels.

    Returns:
        int (labels,), index of each label's threshold; None if even the highest thresholds give
        too many events.
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
        # The labels that add the fewest events first, so that as many as possible descend.
        for label in np.argsort(added, kind="stable"):
            moving[label] &= total + added[label] <= allowed
            if moving[label]:
                steps[label] = step
                total += int(added[label])
    return steps


def highest_rate(num_events: int, hours: float, confidence: float = 0.95) -> float:
    """Return the upper confidence limit of the rate of a Poisson process.

    Without any event it is 3 / hours at 95 %, the rule of three.

    Args:
        num_events: events observed.
        hours: observation time in hours, above 0.
        confidence: one-sided confidence level, in (0, 1).

    Returns:
        Events per hour.
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
