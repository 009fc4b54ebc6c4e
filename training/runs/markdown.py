"""Sections shared by the reports of runs and cross-validations, as lines of Markdown."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.datasets import AudioDataset
from training.runs.evaluation import CALIBRATION_BINS, Evaluation
from training.runs.plots import plot_confusion, plot_per_class, plot_reliability


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Format a Markdown table.

    Args:
        header: names of the columns.
        rows: cells of each row, one per column.
    """
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]


def copies_section(dataset: AudioDataset) -> list[str]:
    """Describe what copies of a published dataset lack; empty for the published files."""
    note = dataset.copies_note
    return [f"{note[0].upper()}{note[1:]}.", ""] if note else []


def evaluation_section(
    evaluation: Evaluation, directory: Path, prefix: str = "", heading: str = "##"
) -> list[str]:
    """Plot and tabulate accuracy by class, confusions and calibration.

    Args:
        evaluation: predictions on held-out clips.
        directory: directory of the report, for the plots.
        prefix: prefix of the plots' file names.
        heading: Markdown heading level.
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
        *(table(("label", "taken for", "clips"), pairs) if pairs else ["No mistakes."]),
        "",
        f"![confusion matrix]({prefix}confusion_matrix.png)",
        "",
        f"{heading} Calibration",
        "",
        f"Expected calibration error {evaluation.calibration_error():.3f}: the mean gap between "
        "confidence (the highest probability) and accuracy, over "
        f"{CALIBRATION_BINS} bins of equal width (Guo et al. 2017).",
        "",
        f"![reliability]({prefix}reliability.png)",
        "",
    ]


def texts_section(prompt: str, label_texts: Mapping[str, Sequence[str]] | None) -> list[str]:
    """Tabulate the texts of labels; empty without any.

    Args:
        prompt: text around each, with `{label}`.
        label_texts: one or more texts by label.
    """
    if label_texts is None:
        return []
    rows = [(label, "; ".join(texts)) for label, texts in label_texts.items()]
    return ["## Texts", "", f"In the prompt `{prompt}`:", "", *table(("label", "text"), rows), ""]


def provenance_section(config: Mapping[str, Any]) -> list[str]:
    """Format the command, versions and git revision.

    Args:
        config: entries of `training.runs.run.provenance`.
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
