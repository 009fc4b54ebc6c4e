"""Sections shared by the reports of runs and cross-validations, as lines of Markdown."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.datasets import AudioDataset
from training.runs.evaluation import CALIBRATION_BINS, Evaluation, Predictions
from training.runs.plots import plot_confusion, plot_per_class, plot_reliability
from training.runs.tagging import THRESHOLD, Tagging


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
    evaluation: Predictions, directory: Path, prefix: str = "", heading: str = "##"
) -> list[str]:
    """Plot and tabulate the results by class, confusions and calibration.

    Args:
        evaluation: predictions on held-out clips.
        directory: directory of the report, for the plots.
        prefix: prefix of the plots' file names.
        heading: Markdown heading level.
    """
    measure = evaluation.class_measure
    name = f"{prefix}per_class_{measure.lower()}.png"
    plot_per_class(evaluation, directory / name)
    plot_reliability(evaluation, directory / f"{prefix}reliability.png")
    lines = [f"{heading} By class", "", f"![{measure} by class]({name})", ""]
    if isinstance(evaluation, Tagging):
        lines += _labels_table(evaluation)
        confidence = "score and share of clips with the label, over all scores"
    else:
        assert isinstance(evaluation, Evaluation)
        lines += _classes_table(evaluation, directory, prefix, heading)
        confidence = "confidence (the highest probability) and accuracy"
    return [
        *lines,
        "",
        f"{heading} Calibration",
        "",
        f"Expected calibration error {evaluation.calibration_error():.3f}: the mean gap between "
        f"{confidence}, over {CALIBRATION_BINS} bins of equal width (Guo et al. 2017).",
        "",
        f"![reliability]({prefix}reliability.png)",
        "",
    ]


def mistakes_table(evaluation: Predictions) -> list[str]:
    """Tabulate the wrong clips."""
    if isinstance(evaluation, Tagging):
        several = [
            (name, "; ".join(missed) or "-", "; ".join(wrong) or "-")
            for name, missed, wrong in evaluation.mistakes()
        ]
        return table(("clip", "missed", "wrongly predicted"), several)
    assert isinstance(evaluation, Evaluation)
    mistakes = [
        (name, truth, predicted, f"{probability:.2f}")
        for name, truth, predicted, probability in evaluation.mistakes()
    ]
    return table(("clip", "label", "taken for", "probability"), mistakes)


def _labels_table(evaluation: Tagging) -> list[str]:
    """Tabulate how well each independent label is predicted."""
    precisions = evaluation.average_precisions()
    shares = {
        label: (precisions[label], tally.f1, tally.precision, tally.recall)
        for label, tally in evaluation.tallies().items()
    }
    rows = [
        (label, str(evaluation.tallies()[label].clips), *(f"{share:.1%}" for share in row))
        for label, row in shares.items()
    ]
    means = [f"{float(np.mean(column)):.1%}" for column in zip(*shares.values(), strict=True)]
    return [
        *table(
            ("label", "clips", "average precision", "F1", "precision", "recall"),
            [*rows, ("mean", "", *means)],
        ),
        "",
        f"F1, precision and recall count a label as predicted from a score of {THRESHOLD:g}. "
        "Average precision depends on no threshold.",
    ]


def _classes_table(evaluation: Evaluation, directory: Path, prefix: str, heading: str) -> list[str]:
    """Tabulate the accuracy of each class and the confusions, and plot the latter."""
    plot_confusion(evaluation, directory / f"{prefix}confusion_matrix.png")
    pairs = [
        (label, other, f"{count} of {clips}")
        for label, other, count, clips in evaluation.hardest_pairs()
    ]
    return [
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
