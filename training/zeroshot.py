"""Classify by text alone: `python -m training.zeroshot --weights runs/a --dataset esc50`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edge.config.options import CommandParser
from edge.types import FloatArray
from semanticac_keras import SemanticAC
from semanticac_keras.progress import progress_bar
from training.datasets import AudioDataset, load_dataset
from training.datasets.base import name_some
from training.datasets.cache import load_clips
from training.inspection.checks import print_warnings
from training.learning.class_names import ClassNames, class_name_options, nearest_names
from training.learning.options import LABEL_TEXTS, dataset_options
from training.learning.own_weights import own_path, run_of, seen_clips
from training.learning.texts import read_texts
from training.learning.trained_model import model_from, short_name
from training.runs.commands import status_of
from training.runs.evaluation import Evaluation
from training.runs.files import writing
from training.runs.lock import locked
from training.runs.markdown import (
    copies_section,
    evaluation_section,
    provenance_section,
    table,
    texts_section,
)
from training.runs.published import LABEL, PUBLISHED
from training.runs.results import Spread
from training.runs.run import Run, RunError, free_directory, provenance, write_json

_PROGRAM = "training.zeroshot"
_CLIPS_AT_ONCE = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    arguments = _parser().parse_args(argv)
    return status_of(_PROGRAM, lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    dataset = load_dataset(arguments.dataset, arguments.data_dir, decoder=arguments.decoder)
    print_warnings(_PROGRAM, dataset)
    name = f"zeroshot-{dataset.name}-{short_name(arguments.weights)}"
    run = Run(arguments.out or free_directory(Path("runs") / name))
    if run.config.exists():
        raise RunError(f"{run.directory} already holds a run; choose another with --out.")
    with locked(run.directory):
        results = _classify(arguments, dataset, run)
    print("\n".join(_accuracy_section(results)))
    print(f"report: {run.directory / 'report.md'}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Classify each clip of a dataset once, by the text that is nearest to it, "
        "without training. Write accuracy, confusions and the exact command to a report.",
        parents=[dataset_options(), class_name_options()],
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="SRC",
        help="pretrained, the tower that comes with the package, or the path of one; path or name "
        "of a published model, such as clap-htsat-unfused, or of a tagger; or your own: a run "
        "directory or a .keras file, which must not have been trained on these clips",
    )
    parser.add_argument(
        "--prompt", help='text around a label, such as "a sound of {label}"; default: the model\'s'
    )
    parser.add_argument("--label-texts", **LABEL_TEXTS)
    parser.add_argument(
        "--out", type=Path, help="directory of the results; default: a new one in runs/"
    )
    return parser


def _training(weights: str, dataset: AudioDataset) -> str:
    """Say which labels one's own model was trained on; nothing about a published one.

    Raises:
        ValueError: if it was trained on some of the clips.
    """
    path = own_path(weights)
    if path is None:
        return ""
    if seen := sorted(seen_clips(path, dataset)):
        raise ValueError(
            f"--weights was trained on {len(seen):,} of the {len(dataset.clips):,} clips "
            f"({name_some(seen)}), so the accuracy would be no test. Name other clips, or a model "
            "that was not trained on these."
        )
    trained_on = run_of(path).trained_on()
    if not trained_on:
        return "The clips that the model was trained on are not listed beside it."
    before = {name for text, *_ in trained_on.values() for name in (text, *text.split(";"))}
    shared = [label for label in dataset.labels if label in before]
    names = f" ({name_some(shared)})" if shared else ""
    return f"The model was trained on other clips of {len(shared)} of these labels{names}."


def _classify(arguments: argparse.Namespace, dataset: AudioDataset, run: Run) -> dict[str, Any]:
    """Classify all clips, write the results, and return the contents of `zeroshot.json`."""
    # Refuse before anything is loaded.
    if not dataset.exclusive:
        raise ValueError(
            f"{dataset.name} has clips with several labels or none, and a text is chosen for each "
            "clip. Name clips with one label each."
        )
    training = _training(arguments.weights, dataset)
    texts = read_texts(arguments.label_texts, dataset.labels)
    names = ClassNames.of(arguments)
    model = model_from(arguments.weights, dataset.labels, arguments.prompt, texts, names)
    evaluation = _evaluate(model, dataset)
    settings = {
        "dataset": dataset.name,
        "decoder": arguments.decoder,
        "weights": arguments.weights,
        "prompt": model.prompt,
        "texts": model.label_texts,
    }
    if near := nearest_names(model):
        sources = {name: value and str(value) for name, value in vars(names).items()}
        settings |= {"class_names": sources, "nearest_classes": near}
    published = PUBLISHED.get((arguments.weights, dataset.name), ())
    results = {
        **settings,
        **_figures(evaluation, dataset),
        "training": training,
        "published": [asdict(each) for each in published],
    }
    run.start(settings, _PROGRAM, dataset.listing())
    evaluation.save(run.predictions)
    _write_report(run.directory, dataset, evaluation, results)
    write_json(run.directory / "zeroshot.json", results)
    return results


def _evaluate(model: SemanticAC, dataset: AudioDataset) -> Evaluation:
    """Predict every clip."""
    clips = load_clips(dataset, model.front_end.sample_rate_hz, progress=True)
    parts: list[FloatArray] = []
    with progress_bar("Comparing with texts", len(clips), enabled=True) as advance:
        # In parts, as the windows of all clips may not fit in memory.
        for start in range(0, len(clips), _CLIPS_AT_ONCE):
            part = clips[start : start + _CLIPS_AT_ONCE]
            parts.append(model.predict(part, verbose=0))
            advance(len(part))
    return Evaluation(
        dataset.labels,
        tuple(clip.name for clip in dataset.clips),
        dataset.truth(range(len(dataset.clips))),
        np.concatenate(parts),
    )


def _figures(evaluation: Evaluation, dataset: AudioDataset) -> dict[str, Any]:
    """Return the entries of `zeroshot.json` that the predictions give."""
    hits = evaluation.predicted == evaluation.truth
    folds = np.array([clip.fold for clip in dataset.clips])
    by_fold = {fold: float(hits[folds == fold].mean()) for fold in dataset.folds}
    spread = Spread.of(by_fold.values())
    return {
        "clips": len(hits),
        "correct_clips": int(hits.sum()),
        "accuracy": evaluation.accuracy,
        "standard_error": evaluation.standard_error,
        "accuracy_by_fold": by_fold,
        "mean_over_folds": spread.mean,
        "std_over_folds": spread.std,
        "per_class_accuracy": evaluation.per_class(),
        "hardest_pairs": evaluation.hardest_pairs(),
        "calibration_error": evaluation.calibration_error(),
    }


def _accuracy_section(results: dict[str, Any]) -> list[str]:
    """Tabulate the accuracy beside published ones, and by fold."""
    measured = f"{100 * results['accuracy']:.1f} ± {100 * results['standard_error']:.1f}"
    counted = f"measured: {results['correct_clips']:,} of {results['clips']:,} clips"
    rows = [(measured, results["prompt"], counted)]
    for each in results["published"]:
        rows.append((each["accuracy"], each["prompt"], f"{LABEL}: {each['source']}"))
    by_fold = results["accuracy_by_fold"]
    shares = [f"{100 * share:.1f}" for share in (*by_fold.values(), results["mean_over_folds"])]
    return [
        *table(("accuracy in %", "prompt", "source"), rows),
        "",
        "The error is the standard error of a share of independent clips. Over the "
        f"{len(by_fold)} folds, the standard deviation is {100 * results['std_over_folds']:.1f}; "
        "folds are different clips, not repetitions.",
        "",
        *table(("", *(f"fold {fold}" for fold in by_fold), "mean"), [("accuracy in %", *shares)]),
        "",
        *([results["training"], ""] if results["training"] else []),
    ]


def _write_report(
    directory: Path, dataset: AudioDataset, evaluation: Evaluation, results: dict[str, Any]
) -> None:
    """Write `report.md` and its pictures."""
    near = results.get("nearest_classes", {})
    lines = [
        f"# {dataset.name} by text alone: {evaluation.accuracy:.1%}",
        "",
        f"`{results['weights']}` compared each clip once with the texts of "
        f"{len(dataset.labels)} labels. Nothing was trained.",
        "",
        *provenance_section(provenance(_PROGRAM)),
        *copies_section(dataset),
        "## Accuracy",
        "",
        *_accuracy_section(results),
        *evaluation_section(evaluation, directory),
        *texts_section(results["prompt"], results["texts"]),
        *(
            [*table(["label", "nearest class names, and their shares"], near.items()), ""]
            * bool(near)
        ),
        "## Data",
        "",
        f"{dataset.citation} Licence: {dataset.licence}.".strip(),
        "",
    ]
    with writing(directory / "report.md") as temporary:
        temporary.write_text("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
