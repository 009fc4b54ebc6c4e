"""Parts that the reports of runs and of cross-validations share, as lines of Markdown."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.runs.evaluation import CALIBRATION_BINS, Evaluation
from training.runs.plots import plot_confusion, plot_per_class, plot_reliability


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table.

    Args:
        header: names of the columns.
        rows: cells, as many in each row.
    """
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]


def evaluation_section(
    evaluation: Evaluation, directory: Path, prefix: str = "", heading: str = "##"
) -> list[str]:
    """What is right and wrong by class, and how far to trust the probabilities.

    Args:
        evaluation: predictions on held-out clips.
        directory: of the report, where the pictures are written.
        prefix: of the pictures' names.
        heading: the sections' level.
    """
    plot_confusion(evaluation, directory / f"{prefix}confusion_matrix.png")
    plot_per_class(evaluation, directory / f"{prefix}per_class_accuracy.png")
    plot_reliability(evaluation, directory / f"{prefix}reliability.png")
    pairs = [
        (label, other, f"{count} of {clips}")
        for label, other, count, clips in evaluation.hardest_pairs()
    ]
    return [
        f"{heading} By class",
        "",
        f"![accuracy by class]({prefix}per_class_accuracy.png)",
        "",
        *table(
            ("label", "accuracy"),
            [(label, f"{share:.1%}") for label, share in evaluation.per_class().items()],
        ),
        "",
        f"{heading} Hardest pairs",
        "",
        *(table(("label", "taken for", "clips"), pairs) if pairs else ["No clip is wrong."]),
        "",
        f"![confusion matrix]({prefix}confusion_matrix.png)",
        "",
        f"{heading} Calibration",
        "",
        f"Expected calibration error {evaluation.calibration_error():.3f}: the mean gap between "
        "the highest probability and the share that is right, over "
        f"{CALIBRATION_BINS} bins of equal width (Guo et al. 2017).",
        "",
        f"![reliability]({prefix}reliability.png)",
        "",
    ]


def provenance_section(config: Mapping[str, Any]) -> list[str]:
    """The command and what it ran with.

    Args:
        config: holds what `training.runs.run.provenance` returns.
    """
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    return [
        "```",
        shlex.join(config["command"]),
        "```",
        "",
        f"Python {config['python']}, {versions}; revision {config['git_revision'] or 'unknown'}.",
        "",
    ]
