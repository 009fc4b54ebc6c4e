"""Plots of a run, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from edge import Classification, FrontEnd, log_mel
from edge.types import FloatArray
from training.runs.evaluation import Evaluation, Predictions
from training.runs.files import writing
from training.runs.run import MEASURES, Row
from training.runs.tagging import Tagging

_TICKS_HZ = (100, 300, 1000, 3000, 10_000)


def plot_confusion(evaluation: Evaluation, path: Path) -> None:
    """Write the confusion matrix as PNG.

    Args:
        evaluation: predictions on held-out clips.
        path: file to write.
    """
    counts, size = evaluation.confusion(), len(evaluation.labels)
    side = 2.5 + 0.35 * size
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(size), evaluation.labels, rotation=90)
    axes.set_yticks(range(size), evaluation.labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{evaluation.accuracy:.1%} of {len(evaluation.truth)} held-out clips")
    for row, column in np.argwhere(counts):
        count = counts[row, column]
        color = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def plot_per_class(evaluation: Predictions, path: Path) -> None:
    """Write the accuracy or F1 of each class as PNG, in descending order.

    Args:
        evaluation: predictions on held-out clips.
        path: file to write.
    """
    shares = sorted(evaluation.per_class().items(), key=lambda item: item[1], reverse=True)
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([label for label, _ in shares], [100 * share for _, share in shares])
    axes.bar_label(bars, fmt="%.1f", padding=3, bbox={"fc": "white", "ec": "none", "pad": 0})
    mean, of = float(np.mean([share for _, share in shares])), "mean"
    if isinstance(evaluation, Evaluation):
        mean, of = evaluation.accuracy, f"all {len(evaluation.truth)} clips"
    axes.axvline(100 * mean, color="black", linestyle=":")
    axes.set_xlim(0, 109)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlabel(f"{evaluation.class_measure} in %; {of}: dotted line")
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def plot_reliability(evaluation: Predictions, path: Path) -> None:
    """Write a reliability diagram as PNG: share of right predictions over their confidence.

    Args:
        evaluation: predictions on held-out clips.
        path: file to write.
    """
    share, counted, confidence = "accuracy", "clips", "highest probability"
    if isinstance(evaluation, Tagging):
        share, counted, confidence = "share with the label", "scores", "score of a label"
    bins = evaluation.confidence_bins()
    filled = [bin for bin in bins if bin.clips]
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    above.plot(
        [bin.confidence for bin in filled],
        [bin.accuracy for bin in filled],
        marker="o",
        label=f"held-out clips, error {evaluation.calibration_error():.3f}",
    )
    above.set_ylabel(share)
    above.legend(loc="upper left")
    edges = [bin.low for bin in bins]
    below.bar(edges, [bin.clips for bin in bins], width=1 / len(bins), align="edge", ec="white")
    below.set_ylabel(counted)
    below.set_xlabel(confidence)
    below.set_xlim(0, 1)
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def plot_curves(
    history: Sequence[Row], validated_on: str, selected_epoch: int | None, path: Path
) -> None:
    """Write loss and accuracy, or mean average precision, over the epochs as PNG.

    Args:
        history: one row per epoch.
        validated_on: label of the second curve.
        selected_epoch: epoch selected on a validation fold, if any.
        path: file to write.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in history]
    measure = next((key for key in MEASURES if history and key in history[0]), MEASURES[0])
    for axes, metric in zip(figure.subplots(1, 2), ("loss", measure), strict=True):
        for key, label in ((metric, "training"), (f"val_{metric}", validated_on)):
            if history and key in history[0]:
                axes.plot(epochs, [row[key] for row in history], label=label)
        if selected_epoch is not None:
            axes.axvline(selected_epoch, color="black", linestyle=":", label="selected")
        axes.set_xlabel("epoch")
        axes.set_title(metric.replace("_", " "))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def plot_stream(
    waveform: FloatArray,
    front_end: FrontEnd,
    sounds: Sequence[tuple[str, float, float]],
    results: Sequence[Classification],
    path: Path,
) -> None:
    """Write a recording's log-mels, its true sounds and its streaming scores, as PNG.

    Args:
        waveform: float32 (samples,), mono at the front end's rate.
        front_end: front end of the bundle.
        sounds: label, start and end in seconds of each sound in the recording.
        results: classifications of the stream, in order; at least one.
        path: file to write.
    """
    labels, seconds = results[0].labels, waveform.size / front_end.sample_rate_hz
    figure = Figure(figsize=(9, 2.5 + 0.22 * len(labels)), layout="constrained")
    above, middle, below = figure.subplots(
        3, 1, sharex=True, height_ratios=(1.6, 0.3, 0.22 * len(labels))
    )
    decibels = log_mel(waveform, front_end).T
    above.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, front_end.num_mels),
        vmin=decibels.max() - 70,
        cmap="magma",
    )
    above.set_ylabel("Hz")
    centres_hz = front_end.band_centres_hz()
    ticks_hz = [hz for hz in _TICKS_HZ if centres_hz[0] <= hz <= centres_hz[-1]]
    # Band i is drawn from i to i + 1.
    rows = np.interp(ticks_hz, centres_hz, np.arange(front_end.num_mels) + 0.5)
    above.set_yticks(rows, [f"{hz:,}" for hz in ticks_hz])
    for label, start, end in sounds:
        middle.barh(0, end - start, left=start, color="lightsteelblue", edgecolor="white")
        middle.text((start + end) / 2, 0, label, ha="center", va="center", fontsize=8)
    middle.set_ylabel("true", rotation=0, ha="right", va="center")
    middle.set_yticks([])
    for side in middle.spines.values():
        side.set_visible(False)
    middle.tick_params(bottom=False)
    # A score is drawn at the end of its window, when it becomes available.
    ends = [result.end_seconds for result in results]
    edges = np.append(ends, ends[-1] + (ends[-1] - ends[0]) / max(1, len(ends) - 1))
    scores = np.stack([result.scores for result in results], axis=1)
    below.pcolormesh(edges, np.arange(len(labels) + 1), scores, vmin=0, vmax=1, cmap="Blues")
    below.set_yticks(np.arange(len(labels)) + 0.5, labels)
    below.invert_yaxis()
    below.set_xlabel("seconds")
    below.set_xlim(0, seconds)
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=100)
