"""Pictures of a run."""

from pathlib import Path

from matplotlib.figure import Figure

from edge.files import replacing
from training.evaluation import Evaluation


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
    if size <= 20:
        for row in range(size):
            for column in range(size):
                if counts[row, column]:
                    light = counts[row, column] > counts.max() / 2
                    axes.text(
                        column,
                        row,
                        str(counts[row, column]),
                        ha="center",
                        va="center",
                        color="white" if light else "black",
                    )
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def plot_curves(history: list[dict[str, float]], path: Path) -> None:
    """Write loss and accuracy over the epochs as PNG.

    Args:
        history: one row an epoch.
        path: file to write.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((metric, "training"), (f"val_{metric}", "held-out fold")):
            if history and key in history[0]:
                axes.plot(epochs, [row[key] for row in history], label=label)
        axes.set_xlabel("epoch")
        axes.set_title(metric)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
