"""Ablations: `python -m training.ablate --table 3 --dataset esc10 --seeds 0 1 2`."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from semanticac_keras import HEADS
from training import fit
from training.crossval import plan, repetition_options
from training.datasets import load_dataset
from training.inspection.checks import print_warnings
from training.learning.augment import Augmentation
from training.learning.options import (
    as_arguments,
    chosen_recipe,
    parse_passing_on,
    recipe_for_dataset,
    without_text_options,
)
from training.learning.recipes import CLAP, Recipe
from training.runs.commands import status_of
from training.runs.cost import tower_costs
from training.runs.files import writing
from training.runs.jobs import FIT_PROGRAM, run_jobs
from training.runs.markdown import provenance_section, table
from training.runs.results import Results, percent
from training.runs.run import provenance

_PROGRAM = "training.ablate"


@dataclass(frozen=True, eq=False)
class Variant:
    """A row of a table.

    Args:
        name: name of the row.
        changes: options of `training.fit` by name, besides those shared by all rows.
        published: the paper's accuracy in %, if there is one.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    published: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """Variants to compare.

    Args:
        title: title, naming the parts that vary.
        variants: rows; the others are compared with the first.
        note: text below the table.
    """

    title: str
    variants: tuple[Variant, ...]
    note: str = ""


TABLES = {
    "3": Table(
        "text and similarity module",
        (
            Variant(
                "baseline: no text, no similarity module",
                {"texts": "none", "head": "pooled", "targets": "prototype"},
                "94.2",
            ),
            Variant("text, no similarity module", {"texts": "labels", "head": "pooled"}, "96.5"),
            Variant("text, SeqLSTM", {"texts": "labels", "head": "seq_lstm"}, "97.25"),
            Variant("text, SeqTransf", {"texts": "labels", "head": "seq_transformer"}, "97.5"),
            Variant("text, CSCM", {"texts": "labels", "head": "cscm"}, "98.0"),
        ),
        "Published: SemanticAC, Table 3, with fold 4 held out, from pretrained towers.",
    ),
    "4": Table(
        "prompts",
        tuple(
            Variant(prompt, {"prompt": prompt}, published)
            for prompt, published in (
                ("{label}", "97.15 ± 0.17"),
                ("a clip of {label}", "97.22 ± 0.4"),
                ("an audio clip of {label}", "97.25 ± 0.25"),
            )
        ),
        "Published: SemanticAC, Table 4, from pretrained towers.",
    ),
    "ingredients": Table(
        "parts of the recipe",
        (
            Variant("the recipe"),
            Variant("targets diagonal", {"targets": "diagonal", "label_smoothing": 0.0}),
            Variant("targets multi-positive", {"targets": "multi_positive"}),
            Variant("targets prototype", {"targets": "prototype"}),
            Variant("random texts", {"texts": "random"}),
            *(Variant(f"head {head}", {"head": head}) for head in HEADS),
            Variant("patches in place of the stem", {"conv_stem": False}),
            Variant("no augmentation", {**asdict(Augmentation()), "spec_augment": False}),
            Variant("no mixup", {"mixup": 0.0}),
            Variant("AdamW at 1.5e-3", {"optimizer": "adamw", "learning_rate": 1.5e-3}),
        ),
    ),
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
    own = repetition_options(_PROGRAM, "Train variants of a recipe and compare them in a table.")
    own.add_argument(
        "--table",
        required=True,
        choices=(*TABLES, "tower"),
        help="3, 4: tables of the paper; ingredients: parts of the recipe; tower: parameters and "
        "work of the audio tower, without training",
    )
    arguments, passed_on = parse_passing_on(own, argv, needs_dataset=False)
    if arguments.table != "tower" and arguments.dataset is None:
        own.error(f"--table {arguments.table} needs --dataset")
    return status_of(_PROGRAM, lambda: _compare(arguments, passed_on, fit_program))


def _compare(
    arguments: argparse.Namespace, passed_on: list[str], fit_program: tuple[str, ...]
) -> None:
    preset = chosen_recipe(arguments).preset
    parts = ("ablate", arguments.table, arguments.dataset, preset)
    directory = arguments.out or Path("runs") / "-".join(filter(None, parts))
    if arguments.table == "tower":
        lines = tower_table(preset)
    else:
        lines = _train(arguments, passed_on, directory, fit_program)
    with writing(directory / "report.md") as temporary:
        temporary.write_text("\n".join([*lines, *provenance_section(provenance(_PROGRAM))]))
    print("\n".join([*lines, f"report: {directory / 'report.md'}"]))


def tower_table(preset: str) -> list[str]:
    """Tabulate parameters and work of the audio encoder and each head, as lines of Markdown.

    Args:
        preset: preset of the model.

    Raises:
        ExportError: if a part's work cannot be counted.
    """
    costs = tower_costs(preset)
    rows = [(name, f"{cost.parameters:,}", f"{cost.macs:,}") for name, cost in costs.items()]
    return [
        f"# Audio tower of preset `{preset}`",
        "",
        *table(("part", "parameters", "multiply-accumulates a window"), rows),
        "",
    ]


def variant_table(results: Mapping[Variant, Results]) -> list[str]:
    """Tabulate each variant's result and difference from the first, as lines of Markdown.

    Args:
        results: results of each variant, with the same folds and seeds.
    """
    reference, *_ = results.values()
    published = any(variant.published for variant in results)
    rows = [
        (
            variant.name,
            percent(result.over_seeds()),
            "" if result is reference else _difference(result, reference),
            *([variant.published] if published else []),
        )
        for variant, result in results.items()
    ]
    folds, seeds = (", ".join(map(str, several)) for several in (reference.folds, reference.seeds))
    return [
        *table(
            (
                *("variant", f"{reference.measure} in %", "difference from the first"),
                *(["published (ESC-50)"] if published else []),
            ),
            rows,
        ),
        "",
        f"{reference.measure.capitalize()}: mean over folds ({folds}), then mean ± standard "
        f"deviation over seeds ({seeds}). Difference: mean ± standard error over the pairs of runs "
        f"with the same fold and seed (n = {len(reference.evaluations)}).",
    ]


def _train(
    arguments: argparse.Namespace,
    passed_on: Sequence[str],
    directory: Path,
    fit_program: tuple[str, ...],
) -> list[str]:
    """Train the variants of a table, except those equal to the first, and compare them."""
    dataset = load_dataset(arguments.dataset, arguments.data_dir, decoder=arguments.decoder)
    print_warnings(_PROGRAM, dataset)
    ablation = TABLES[arguments.table]
    variants = ablation.variants
    options = {variant: _options(variant, passed_on) for variant in variants}
    recipes = {
        variant: recipe_for_dataset(fit.parse(line), dataset) for variant, line in options.items()
    }
    first = variants[0]
    architectures = {_architecture(recipe) for recipe in recipes.values()}
    if arguments.weights and recipes[first].preset != CLAP and len(architectures) > 1:
        raise ValueError(
            f"--weights fits one architecture, and table {arguments.table} compares several"
        )
    same = [variant for variant in variants[1:] if recipes[variant] == recipes[first]]
    plans = {
        variant: plan(
            directory / re.sub("[^a-z0-9]+", "-", variant.name.lower()).strip("-"),
            line,
            dataset,
            arguments.folds or dataset.folds,
            arguments.seeds,
            fit_program=fit_program,
        )
        for variant, line in options.items()
        if variant not in same
    }
    run_jobs([job for jobs in plans.values() for job in jobs.values()], arguments.jobs)
    results = {variant: Results.read(jobs, dataset) for variant, jobs in plans.items()}
    lines = [
        f"# {dataset.name}, preset `{recipes[first].preset}`: {ablation.title}",
        "",
        *variant_table(results),
    ]
    if same:
        names = ", ".join(variant.name for variant in same)
        lines.append(f"Equal to the first, and not trained again: {names}.")
    return [*lines, ablation.note, ""]


def _options(variant: Variant, passed_on: Sequence[str]) -> list[str]:
    """Return the command line of a variant's runs, which lacks what the variant cannot have."""
    if variant.changes.get("texts") == "none":
        passed_on = without_text_options(passed_on)
    return [*passed_on, *as_arguments(variant.changes)]


def _architecture(recipe: Recipe) -> tuple[Any, ...]:
    """Return the fields that determine which weights a model has."""
    return (recipe.preset, recipe.conv_stem, recipe.head, recipe.texts == "none")


def _difference(result: Results, reference: Results) -> str:
    """Format the difference in percentage points, with its standard error."""
    difference = result.difference(reference)
    text = f"{100 * difference.mean:+.1f}"
    error = difference.standard_error
    return text if error is None else f"{text} ± {100 * error:.1f}"


if __name__ == "__main__":
    sys.exit(main())
