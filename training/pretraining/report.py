"""The report of a pretraining."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from training.pretraining.judging import PROBE, Agreement, Comparison
from training.runs.files import writing
from training.runs.markdown import provenance_section, table
from training.runs.run import Row, Run

_CURVES = ("top1", "top5", "cosine", "mean_average_precision", PROBE)
_HEADER = ("source", "crops", "top 1 in %", "top 5 in %", "cosine", "mAP in % (classes)")


def write_report(
    run: Run, history: Sequence[Row], comparison: Comparison, sources: npt.NDArray[np.str_]
) -> None:
    """Write `report.md` and `curves.png`.

    Args:
        run: directory of the run.
        history: one row per epoch.
        comparison: answers of the averaged weights after the last epoch to n crops.
        sources: the source of each crop, (n,).

    Raises:
        RunError: if a file cannot be written.
    """
    config = json.loads(run.config.read_text())
    corpus = config["corpus"]
    teachers = [each["name"] for each in (config["teacher"], *config.get("more_teachers", ()))]
    rows = [("all", comparison.agreement())]
    rows += [(name, comparison.of(sources == name).agreement()) for name in np.unique(sources)]
    lines = [
        "# Pretraining",
        "",
        *provenance_section(config),
        f"Preset `{config['plan']['preset']}`, taught by {', '.join(teachers)}, "
        f"{corpus['hours']:.1f} hours of sound, whose licences "
        f"{'let' if corpus['may_ship'] else 'do not let'} weights be published.",
        "",
        f"## Agreement with {teachers[0]}",
        "",
        "On crops of sources that the student never heard, with the averaged weights of the last "
        "epoch. A class is present if the teacher gives it at least 0.5.",
        "",
        *table(_HEADER, [(name, *_cells(agreement)) for name, agreement in rows]),
        "",
        "![curves](curves.png)",
        "",
    ]
    if PROBE in history[-1]:
        best = max(history, key=lambda row: row[PROBE])
        lines += [
            f"`pretrained.npz` has the weights of epoch {best['epoch']:.0f}, the best by a linear "
            f"probe on labelled clips: {best[PROBE]:.1%}.",
            "",
        ]
    _plot(history, run.directory / "curves.png")
    with writing(run.directory / "report.md") as temporary:
        temporary.write_text("\n".join(lines))


def _cells(agreement: Agreement) -> tuple[str, ...]:
    precision = "-"
    if agreement.classes:
        precision = f"{100 * agreement.mean_average_precision:.1f} ({agreement.classes})"
    return (
        f"{agreement.crops:,}",
        f"{100 * agreement.top1:.1f}",
        f"{100 * agreement.top5:.1f}",
        f"{agreement.cosine:.2f}",
        precision,
    )


def _plot(history: Sequence[Row], path: Path) -> None:
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, shares = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    losses.plot(epochs, [row["loss"] for row in history])
    losses.set_title("loss")
    for name in _CURVES:
        if name in history[-1]:
            shares.plot(epochs, [row[name] for row in history], label=name.replace("_", " "))
    shares.set_title("held-out sources")
    shares.legend()
    for axes in (losses, shares):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=100)
