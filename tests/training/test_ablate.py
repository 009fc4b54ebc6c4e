"""Ablation tables: the recipes of their variants, and the comparison of their results."""

import json
import re

import pytest

from training import ablate, fit
from training.datasets import load_dataset
from training.learning.options import as_arguments, chosen_recipe
from training.learning.recipes import RECIPES
from training.runs.run import Run


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "table"


@pytest.fixture
def arguments(micro_arguments, directory):
    return [*micro_arguments, "--out", str(directory)]


def recipe_of(table, name, *options):
    """Recipe of a row, with these options on the command line."""
    [variant] = [variant for variant in ablate.TABLES[table].variants if variant.name == name]
    line = ["--dataset", "demo", *options, *as_arguments(variant.changes)]
    return chosen_recipe(fit.parse(line))


def test_a_row_changes_only_its_fields_of_the_recipe():
    scratch = RECIPES["scratch"]
    assert recipe_of("ingredients", "the recipe", "--recipe", "scratch") == scratch
    plain = recipe_of("ingredients", "no augmentation", "--recipe", "scratch", "--mixup", "0.7")
    assert plain == scratch.override(
        {"time_flip": 0.0, "time_scale": 1.0, "noise": 0.0, "gain_db": 0.0, "mixup": 0.0}
        | {"spec_augment": False}
    )
    assert recipe_of("3", "text, SeqLSTM").head == "seq_lstm"
    assert recipe_of("4", "{label}").prompt == "{label}"


def test_compares_paired_runs_and_trains_equal_variants_once(
    arguments, directory, folder, write_results, monkeypatch, capsys
):
    monkeypatch.setattr(ablate, "run_jobs", lambda *_: None)
    dataset, passed_on = load_dataset("folder", folder), arguments[:-2]
    for slug, changes, accuracies in (
        ("the-recipe", {}, [0.5, 0.0, 0.5, 0.5]),
        ("random-texts", {"texts": "random"}, [1.0, 0.5, 0.5, 0.5]),
    ):
        write_results(
            ablate.plan(
                directory / slug, [*passed_on, *as_arguments(changes)], dataset, [1, 2], [0, 1]
            ),
            accuracies,
        )
    variants = ablate.TABLES["ingredients"].variants
    kept = tuple(v for v in variants if v.name in ("the recipe", "random texts", "head cscm"))
    monkeypatch.setitem(ablate.TABLES, "ingredients", ablate.Table("parts", kept))
    command = [*arguments, "--table", "ingredients", "--folds", "1", "2", "--seeds", "0", "1"]
    assert ablate.main(command) == 0
    printed = capsys.readouterr().out
    # By fold/seed: 1/0 0.5, 1/1 0.0, 2/0 0.5, 2/1 0.5 against 1.0, 0.5, 0.5, 0.5.
    assert "| the recipe | 37.5 ± 17.7 |  |" in printed
    assert "| random texts | 62.5 ± 17.7 | +25.0 ± 14.4 |" in printed
    assert "(n = 4)" in printed
    assert "not trained again: head cscm." in printed
    assert "published" not in printed
    assert printed.split("report:")[0].strip() in (directory / "report.md").read_text()


def test_a_row_without_text_leaves_out_the_options_of_texts(arguments, monkeypatch, tmp_path):
    planned = {}

    def stop(jobs, _):
        planned.update((job.run.directory.parent.name, job.arguments) for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr(ablate, "run_jobs", stop)
    texts, vocabulary = tmp_path / "texts.toml", tmp_path / "vocabulary"
    texts.write_text('hiss = ["a", "b"]')
    given = ["--label-texts", str(texts), f"--bpe-vocab={vocabulary}", "--text-weights", "minilm"]
    command = [*arguments, *given, "--table", "3", "--folds", "2", "--epochs", "1"]
    assert ablate.main(command) == 130
    without = planned.pop("baseline-no-text-no-similarity-module")
    assert not set(given) & set(without)
    assert {"--data-dir", "--epochs"} <= set(without)
    assert fit.parse(without).label_texts is None
    assert len(planned) == 4
    assert all(set(given) <= set(line) for line in planned.values())


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_trains_two_variants(arguments, directory, monkeypatch, capsys):
    def train(jobs, at_once):
        assert at_once == 2
        for job in jobs:
            assert job.program == ("fit",)
            assert fit.main([*job.arguments, "--out", str(job.run.directory)]) == 0

    monkeypatch.setattr(ablate, "run_jobs", train)
    rows = ablate.TABLES["3"].variants[:2]
    monkeypatch.setitem(ablate.TABLES, "3", ablate.Table("text", rows, "The note."))
    command = [*arguments, "--table", "3", "--folds", "2", "--epochs", "1", "--jobs", "2"]
    assert ablate.main(command, ("fit",)) == 0
    printed = capsys.readouterr().out
    assert "published (ESC-50)" in printed
    accuracies = []
    for row, texts in zip(rows, ("none", "labels"), strict=True):
        slug = "-".join(re.findall("[a-z]+", row.name))
        run = Run(directory / slug / "last-fold2-seed0")
        recipe = json.loads(run.config.read_text())["recipe"]
        assert (recipe["texts"], recipe["head"]) == (texts, "pooled")
        accuracies.append(json.loads(run.metrics.read_text())["accuracy"])
    one, two = (100 * accuracy for accuracy in accuracies)
    assert f"| {rows[0].name} | {one:.1f} |  | 94.2 |" in printed
    assert f"| {rows[1].name} | {two:.1f} | {two - one:+.1f} | 96.5 |" in printed


@pytest.mark.slow
def test_the_tower_table_needs_no_training(
    micro_costs, micro_arguments, directory, monkeypatch, capsys
):
    monkeypatch.setattr(ablate, "tower_costs", {micro_arguments[-1]: micro_costs}.get)
    assert ablate.main(["--table", "tower", *micro_arguments[-2:], "--out", str(directory)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\| audio_encoder \| 6,044 \| [1-9][0-9,]+ \|", printed)
    assert re.search(r"\| cscm \| 1,539 \| [1-9][0-9,]+ \|", printed)
    assert [path.name for path in directory.iterdir()] == ["report.md"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--table", "3"], "--table 3 needs --dataset"),
        (["--table", "5"], "invalid choice: '5'"),
    ],
)
def test_a_wrong_command_line_is_one_line(line, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        ablate.main(line)
    [error] = capsys.readouterr().err.splitlines()
    assert message in error


def test_weights_of_one_model_fit_no_table_of_several(arguments, directory, capsys):
    assert ablate.main([*arguments, "--weights", "gone.keras", "--table", "3"]) == 1
    assert "--weights fits one architecture, and table 3" in capsys.readouterr().err
    assert not directory.exists()
