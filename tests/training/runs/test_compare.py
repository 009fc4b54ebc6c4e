import json

import pytest

from training import crossval, report
from training.datasets import load_dataset
from training.runs.run import Run, write_json


@pytest.fixture
def finished(micro_arguments, folder, write_results, tmp_path, monkeypatch):
    """Directories of two runs that differ in two fields, and of a cross-validation."""
    dataset = load_dataset("folder", folder)
    longer = [*micro_arguments, "--epochs", "9", "--mixup", "0.2"]
    runs = {
        **crossval.plan(tmp_path / "a", micro_arguments, dataset, [1], [0]),
        **crossval.plan(tmp_path / "b", longer, dataset, [2], [0], validate=True),
    }
    write_results(runs, [1.0, 0.5])
    jobs = crossval.plan(tmp_path / "c", micro_arguments, dataset, [1, 2], [0, 1])
    write_results(jobs, [1.0, 0.5, 0.5, 0.5])
    monkeypatch.setattr(crossval, "run_jobs", lambda *_: None)
    command = [*micro_arguments, "--folds", "1", "2", "--seeds", "0", "1"]
    assert crossval.main([*command, "--out", str(tmp_path / "c")]) == 0
    return [*(job.run.directory for job in runs.values()), tmp_path / "c"]


def test_the_table_shows_the_settings_that_differ(finished, tmp_path, capsys):
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert report.main(["compare", *map(str, finished), str(tmp_path / "empty")]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    a, b, c = finished
    assert lines == [
        "| run | dataset | folds | seeds | protocol | preset | epochs | mixup | accuracy in % "
        "| training s a run | parameters |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| {a} | sounds | 1 | 0 | last | micro | 6 | 0.0 | 100.0 | 2 | 7 |",
        f"| {b} | sounds | 2 | 0 | validation | micro | 9 | 0.2 | 50.0 | 2 | 7 |",
        f"| {c} | sounds | 1, 2 | 0, 1 | last | micro | 6 | 0.0 | 62.5 ± 17.7 | 2 | 7 |",
    ]
    assert captured.err == f"training.report: nothing finished in {tmp_path / 'empty'}\n"


def test_nothing_to_compare_is_an_error(tmp_path, capsys):
    assert report.main(["compare", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"training.report: error: nothing finished in {tmp_path}\n"


def test_a_run_without_a_held_out_fold_has_no_accuracy(finished, capsys):
    run = Run(finished[0])
    config, figures = (json.loads(path.read_text()) for path in (run.config, run.metrics))
    del figures["accuracy"]
    write_json(run.config, {**config, "fold": None})
    write_json(run.metrics, figures)
    capsys.readouterr()
    assert report.main(["compare", str(run.directory)]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == f"| {run.directory} | sounds | none | 0 | last | micro | - | 2 | 7 |"


def test_an_average_precision_is_marked(finished, capsys):
    run = Run(finished[0])
    figures = json.loads(run.metrics.read_text())
    figures["mean_average_precision"] = figures.pop("accuracy")
    write_json(run.metrics, figures)
    capsys.readouterr()
    assert report.main(["compare", str(run.directory)]) == 0
    assert "| 100.0 mAP |" in capsys.readouterr().out
