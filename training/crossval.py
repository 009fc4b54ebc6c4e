"""Cross-validation: `python -m training.crossval --dataset esc10 --seeds 0 1 2`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from edge.config.options import CommandParser
from training import fit
from training.datasets import AudioDataset, load_dataset
from training.inspection.checks import print_warnings
from training.learning.checks import check_learnable
from training.learning.options import (
    chosen_recipe,
    parse_passing_on,
    positive_int,
    recipe_for_dataset,
)
from training.runs.commands import status_of
from training.runs.evaluation import Predictions
from training.runs.files import writing
from training.runs.jobs import FIT_PROGRAM, FitProcess, run_jobs
from training.runs.markdown import (
    copies_section,
    evaluation_section,
    provenance_section,
    table,
    texts_section,
)
from training.runs.results import Results, percent
from training.runs.run import Run, provenance, write_json

_PROGRAM = "training.crossval"
_PROTOCOLS = {
    "last": "Trained on all other folds. The last epoch is tested; nothing was selected.",
    "validation": "Trained on all other folds but the next, which selected the epoch.",
}


def main(argv: Sequence[str] | None = None, fit_program: tuple[str, ...] = FIT_PROGRAM) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.
        fit_program: command line that starts a run, before its arguments.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    own = repetition_options(_PROGRAM, "Train once per fold and seed and report the joint results.")
    own.add_argument(
        "--protocol",
        choices=(*_PROTOCOLS, "both"),
        default="last",
        help="test the last epoch, or the best on a validation fold; default: last",
    )
    own.add_argument(
        "--keep-bundles",
        action="store_true",
        help="also keep each run's model, as an int8 bundle",
    )
    arguments, passed_on = parse_passing_on(own, argv)
    return status_of(_PROGRAM, lambda: _validate(arguments, passed_on, fit_program))


def _validate(
    arguments: argparse.Namespace, passed_on: list[str], fit_program: tuple[str, ...]
) -> None:
    protocols = _PROTOCOLS if arguments.protocol == "both" else (arguments.protocol,)
    dataset = load_dataset(arguments.dataset, arguments.data_dir, decoder=arguments.decoder)
    print_warnings(_PROGRAM, dataset)
    preset = chosen_recipe(arguments).preset
    directory = arguments.out or Path(f"runs/crossval-{dataset.name}-{preset}")
    plans = {
        protocol: plan(
            directory,
            passed_on,
            dataset,
            arguments.folds or dataset.folds,
            arguments.seeds,
            protocol == "validation",
            arguments.keep_bundles,
            fit_program,
        )
        for protocol in protocols
    }
    run_jobs([job for jobs in plans.values() for job in jobs.values()], arguments.jobs)
    results = {protocol: Results.read(jobs, dataset) for protocol, jobs in plans.items()}
    first_run = next(job.run for jobs in plans.values() for job in jobs.values())
    _write_report(directory, dataset, first_run, results, arguments.jobs)
    for protocol, result in results.items():
        print("\n".join([*_accuracy_section(protocol, result), ""]))
    print(f"report: {directory / 'report.md'}")


def repetition_options(program: str, description: str) -> CommandParser:
    """Create the parser of a command that trains with several folds and seeds.

    Args:
        program: name of the command's module.
        description: description for `--help`.
    """
    parser = CommandParser(prog=f"python -m {program}", description=description, add_help=False)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="seeds; default: 0"
    )
    parser.add_argument(
        "--folds", type=int, nargs="+", metavar="N", help="held-out folds; default: all"
    )
    parser.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N", help="parallel runs; default: 1"
    )
    parser.add_argument(
        "--out", type=Path, help="directory of all runs; finished runs are not repeated"
    )
    return parser


def plan(
    directory: Path,
    arguments: Sequence[str],
    dataset: AudioDataset,
    folds: Sequence[int],
    seeds: Sequence[int],
    validate: bool = False,
    keep_bundles: bool = False,
    fit_program: tuple[str, ...] = FIT_PROGRAM,
) -> dict[tuple[int, int], FitProcess]:
    """Plan one run per fold and seed.

    Args:
        directory: parent of the run directories; runs in it are resumed or reused.
        arguments: arguments of `training.fit` shared by all runs.
        dataset: dataset of the training.
        folds: folds to hold out.
        seeds: seeds of the recipe.
        validate: select the epoch on the next fold, cyclically, and do not train on it.
        keep_bundles: export each model.
        fit_program: command line that starts a run, before its arguments.

    Returns:
        Jobs by fold and seed.

    Raises:
        RunError: if a run was started with other settings or other clips.
        ValueError: if a fold does not exist, a field of the recipe is not allowed, or a run would
            learn nothing.
    """
    jobs, clips = {}, dataset.listing()
    export = ("--quantization", "dynamic_int8") if keep_bundles else ("--no-export",)
    for fold, seed in product(folds, seeds):
        run_arguments = [*arguments, "--fold", str(fold), "--seed", str(seed), *export]
        following = _following(fold, dataset) if validate else None
        if following is not None:
            run_arguments += ["--validation-fold", str(following)]
        parsed = fit.parse(run_arguments)
        split = fit.checked_split(parsed, dataset, fold)  # before any run
        check_learnable(split, recipe_for_dataset(parsed, dataset))
        settings = fit.settings(parsed, dataset, fold)
        name = f"{'validation' if validate else 'last'}-fold{fold}-seed{seed}"
        job = FitProcess(Run(directory / name), tuple(run_arguments), fit_program)
        if job.run.config.exists():
            job.run.check_same(settings, clips)
        jobs[fold, seed] = job
    return jobs


def _following(fold: int, dataset: AudioDataset) -> int:
    """Return the next fold, cyclically."""
    return next((other for other in dataset.folds if other > fold), dataset.folds[0])


def _accuracy_section(protocol: str, results: Results) -> list[str]:
    """Describe the protocol, and tabulate the results and their spread."""
    rows = [
        (f"seed {seed}", *(f"{100 * share:.1f}" for share in (*row, row.mean())))
        for seed, row in zip(results.seeds, results.qualities, strict=True)
    ]
    if len(results.seeds) > 1:
        means = results.qualities.mean(axis=0)
        rows.append(("mean", *(f"{100 * mean:.1f}" for mean in (*means, means.mean()))))
    seeds, folds = results.over_seeds(), results.over_folds()
    lines = [
        f"## Protocol `{protocol}`: {percent(seeds)} %",
        "",
        _PROTOCOLS[protocol],
        "",
        *table(
            (f"{results.measure} in %", *(f"fold {fold}" for fold in results.folds), "mean"), rows
        ),
        "",
    ]
    if seeds.std is not None:
        lines.append(
            f"Standard deviation over seeds (n = {seeds.count}), of the mean over folds: "
            f"{100 * seeds.std:.1f}."
        )
    if folds.std is not None:
        lines.append(
            f"Standard deviation over folds (n = {folds.count}), of the mean over seeds: "
            f"{100 * folds.std:.1f}; folds are different clips, not repetitions."
        )
    if protocol == "validation":
        last = results.mean(f"{results.key}_last_epoch")
        lines.append(f"The last epoch of the same runs reaches {100 * last:.1f} %.")
    return lines


def _write_report(
    directory: Path,
    dataset: AudioDataset,
    first_run: Run,
    results: Mapping[str, Results],
    at_once: int,
) -> None:
    """Write `report.md`, its pictures and `summary.json`."""
    config = json.loads(first_run.config.read_text())
    recipe = {name: value for name, value in config["recipe"].items() if name != "seed"}
    made = provenance(_PROGRAM)
    lines = [
        f"# {dataset.name}: cross-validation of preset `{recipe['preset']}`",
        "",
        *provenance_section(made),
        *copies_section(dataset),
        *texts_section(recipe["prompt"], config.get("label_texts")),
    ]
    figures = {}
    for protocol, result in results.items():
        pooled = result.pooled()
        lines += [
            *_accuracy_section(protocol, result),
            "",
            f"A run trained on {result.mean('training_clips_per_second'):.0f} clips/s and took "
            f"{result.mean('training_seconds'):.0f} s, with {at_once} runs in parallel. "
            f"The following sections count the clips of all {len(result.evaluations)} runs.",
            "",
            *evaluation_section(pooled, directory, f"{protocol}-", "###"),
        ]
        figures[protocol] = _figures(result, pooled)
    with writing(directory / "report.md") as temporary:
        temporary.write_text("\n".join(lines))
    summary = {
        "dataset": dataset.name,
        "recipe": recipe,
        "label_texts": config.get("label_texts"),
        "weights": config["weights"],
        "parameters": json.loads(first_run.metrics.read_text())["parameters"],
        "runs_at_once": at_once,
        "protocols": figures,
        **made,
    }
    write_json(directory / "summary.json", summary)


def _figures(result: Results, pooled: Predictions) -> dict[str, Any]:
    """Return one protocol's entry in `summary.json`."""
    by_seed = dict(zip(result.seeds, result.qualities.tolist(), strict=True))
    key = result.key
    seeds, folds = result.over_seeds(), result.over_folds()
    return {
        "folds": result.folds,
        "seeds": result.seeds,
        f"{key}_by_seed_and_fold": by_seed,
        key: seeds.mean,
        "std_over_seeds": seeds.std,
        "std_over_folds": folds.std,
        f"{key}_last_epoch": result.mean(f"{key}_last_epoch"),
        **pooled.figures(),
        "calibration_error": pooled.calibration_error(),
        "training_clips_per_second": result.mean("training_clips_per_second"),
        "training_seconds": result.mean("training_seconds"),
    }


if __name__ == "__main__":
    sys.exit(main())
