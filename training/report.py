"""The report of a run: metrics, plots and the command.

`python -m training.report compare runs/*` compares finished runs.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.config.options import CommandParser
from training.datasets import AudioDataset
from training.runs.compare import compare
from training.runs.evaluation import Predictions
from training.runs.files import writing
from training.runs.markdown import (
    copies_section,
    evaluation_section,
    mistakes_table,
    provenance_section,
    texts_section,
)
from training.runs.plots import plot_curves
from training.runs.run import Run

_PROGRAM = "training.report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, or 1 if nothing can be compared.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    parser = CommandParser(prog=f"python -m {_PROGRAM}", description="Compare finished runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    comparison = commands.add_parser("compare", help="print a Markdown table of finished runs")
    comparison.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    lines, unfinished = compare(parser.parse_args(argv).directories)
    if unfinished:
        severity = "" if lines else "error: "
        names = ", ".join(map(str, unfinished))
        print(f"{_PROGRAM}: {severity}nothing finished in {names}", file=sys.stderr)
    if not lines:
        return 1
    print("\n".join(lines))
    return 0


def write_report(
    run: Run, dataset: AudioDataset, evaluation: Predictions | None, figures: dict[str, Any]
) -> None:
    """Write `report.md` and its plots.

    Args:
        run: run directory with its configuration and history.
        dataset: dataset of the training.
        evaluation: predictions on the held-out fold, if there is one.
        figures: contents of `metrics.json`.
    """
    config = json.loads(run.config.read_text())
    validation = figures.get("validation")
    plot_curves(
        run.read_history(),
        "validation fold" if validation else "held-out fold",
        validation["epoch"] if validation else None,
        run.directory / "curves.png",
    )
    title = f"# {dataset.name}, no fold held out"
    if evaluation is not None:
        title = (
            f"# {dataset.name}, fold {config['fold']} held out: "
            f"{evaluation.measure} {evaluation.quality:.1%}"
        )
    lines = [
        title,
        "",
        f"{figures['held_out_clips']} clips held out, {figures['training_clips']} trained on, "
        f"preset `{config['recipe']['preset']}`, {_duration(figures)}. "
        f"{_choice(figures, evaluation)}",
        "",
        _sizes(figures),
        "",
        *(["**Interrupted before the last epoch.**", ""] if figures["interrupted"] else []),
        *provenance_section(config),
        "![curves](curves.png)",
        "",
        *([] if evaluation is None else _held_out(evaluation, run.directory)),
        *(["## Export", "", _export(figures), ""] if "export" in figures else []),
        *texts_section(config["recipe"]["prompt"], config.get("label_texts")),
        "## Data",
        "",
        f"{dataset.citation} Licence: {dataset.licence}.".strip(),
        "",
    ]
    lines += copies_section(dataset)
    if dataset.straddling_sources:
        lines += [
            f"{len(dataset.straddling_sources)} source recordings are in more than one official "
            "fold, so the accuracy is slightly optimistic; the folds are kept for comparability.",
            "",
        ]
    with writing(run.directory / "report.md") as temporary:
        temporary.write_text("\n".join(lines))


def _held_out(evaluation: Predictions, directory: Path) -> list[str]:
    """Describe the predictions on the held-out fold."""
    return [
        *evaluation_section(evaluation, directory),
        "## Mistakes",
        "",
        *mistakes_table(evaluation),
        "",
    ]


def _duration(figures: dict[str, Any]) -> str:
    text = f"{figures['epochs']} epochs in {figures['training_seconds']:.0f} s"
    if rate := figures.get("training_clips_per_second"):
        text += f" of training, {rate:.0f} clips/s in a median epoch"
    return text


def _choice(figures: dict[str, Any], evaluation: Predictions | None) -> str:
    """Explain which epoch the result belongs to, and how it was selected."""
    validation = figures.get("validation")
    if evaluation is None:
        return (
            "No clip was held out, so this run has no test: `python -m training.crossval` "
            "with the same options measures what the recipe reaches on unseen clips."
        )
    key, measure = evaluation.key, evaluation.measure
    if not validation:
        return f"The held-out fold selected nothing: the {measure} is that of the last epoch."
    return (
        f"Fold {validation['fold']} ({validation['clips']} clips) was left out of training for "
        f"validation. It selected epoch {validation['epoch']}, with "
        f"{_validated(validation, key)} "
        "The held-out fold selected nothing. On it, the epoch selected on validation reaches "
        f"{figures[f'{key}_selected_on_validation']:.1%}, "
        f"the last epoch {figures[f'{key}_last_epoch']:.1%}."
    )


def _validated(validation: dict[str, Any], key: str) -> str:
    if key == "accuracy":
        return f"{validation[key]:.1%} of its windows right."
    return f"a {key.replace('_', ' ')} of {validation[key]:.1%} on its windows."


def _sizes(figures: dict[str, Any]) -> str:
    rows, columns, depth = figures["token_map"]
    parts = "; ".join(
        f"{part} {count:,} parameters" for part, count in figures["parameters"].items()
    )
    return (
        f"{parts[0].upper()}{parts[1:]}. Token map d = {depth}, h = {rows}, w = {columns}; "
        f"shared space C = {figures['embedding_dim']} (the paper's: 768, 8, 8; 1024)."
    )


def _export(figures: dict[str, Any]) -> str:
    export = figures["export"]
    clips = "held-out" if figures["held_out_clips"] else "training"
    if "error" in export:
        return f"Not exported: {export['error']}."
    return (
        f"`model.tflite` ({export['quantization']}) against Keras on {export['clips']:.0f} "
        f"{clips} windows: largest difference of a probability "
        f"{export['max_score_difference']:.1e}, smallest cosine of the embeddings "
        f"{export['min_cosine']:.5f}."
    )


if __name__ == "__main__":
    sys.exit(main())
