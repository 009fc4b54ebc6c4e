"""The report of a run: figures, pictures and the command that made them."""

import json
from collections.abc import Sequence
from typing import Any

from edge.files import replacing
from training.datasets import AudioDataset
from training.evaluation import Evaluation
from training.run import Run


def write_report(
    run: Run,
    dataset: AudioDataset,
    fold: int,
    evaluation: Evaluation,
    names: Sequence[str],
    figures: dict[str, Any],
) -> None:
    """Write `report.md`.

    Args:
        run: the run directory, whose configuration says how it was made.
        dataset: what was trained on.
        fold: the fold held out.
        evaluation: predictions on it.
        names: its clips' names.
        figures: what `metrics.json` holds.
    """
    config = json.loads(run.config.read_text())
    recipe = config["recipe"]
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    rows, columns, depth = figures["token_map"]
    parameters = "; ".join(
        f"{part} {count:,} parameters" for part, count in figures["parameters"].items()
    )
    lines = [
        f"# {dataset.name}, fold {fold} held out: {evaluation.accuracy:.1%}",
        "",
        f"{figures['held_out_clips']} clips held out, {figures['training_clips']} trained on, "
        f"preset `{recipe['preset']}`, "
        f"{figures['epochs']} epochs in {figures['training_seconds']:.0f} s. "
        "The held-out fold chose nothing: the figure is that of the last epoch.",
        "",
        f"{parameters[0].upper()}{parameters[1:]}. Token map d = {depth}, h = {rows}, "
        f"w = {columns}; shared space C = {figures['embedding_dim']} "
        "(the paper's: 768, 8, 8; 1024).",
        *(["", "**Interrupted before the last epoch.**"] if figures["interrupted"] else []),
        "",
        "```",
        " ".join(config["command"]),
        "```",
        "",
        f"Python {config['python']}, {versions}; revision {config['git_revision'] or 'unknown'}.",
        "",
        "![curves](curves.png)",
        "",
        "## By class",
        "",
        "| label | accuracy |",
        "| --- | --- |",
        *(f"| {label} | {share:.1%} |" for label, share in evaluation.per_class().items()),
        "",
        "![confusion matrix](confusion_matrix.png)",
        "",
        "## Mistakes",
        "",
        "| clip | is | taken for | probability |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {truth} | {given} | {probability:.2f} |"
            for name, truth, given, probability in evaluation.mistakes(names)
        ),
        "",
        "## Export",
        "",
        _export_sentence(figures["export"]),
        "",
        "## Data",
        "",
        f"{dataset.citation} Licence: {dataset.licence}.".strip(),
        "",
    ]
    if dataset.straddling_sources:
        lines.insert(
            -1,
            f"\n{len(dataset.straddling_sources)} source recordings lie in more than one official "
            "fold, so figures on them are slightly too good; the folds are kept for comparison.",
        )
    with replacing(run.directory / "report.md") as temporary:
        temporary.write_text("\n".join(lines))


def _export_sentence(export: dict[str, Any]) -> str:
    if "error" in export:
        return f"Not exported: {export['error']}."
    return (
        f"`model.tflite` ({export['quantization']}) against Keras on {export['clips']:.0f} "
        "held-out windows: largest difference of a probability "
        f"{export['max_score_difference']:.1e}, smallest cosine of the embeddings "
        f"{export['min_cosine']:.5f}."
    )
