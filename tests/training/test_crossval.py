"""Cross-validation: its runs, an interrupt, a failure, and the report."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from training import crossval
from training.datasets import load_dataset
from training.runs.evaluation import Evaluation
from training.runs.run import Run


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cv"


@pytest.fixture
def arguments(micro_arguments, directory):
    """Command line of a cross-validation in `directory`."""
    return [*micro_arguments, "--targets", "prototype", "--out", str(directory)]


# Stands in for `training.fit`: the first attempt waits for an interrupt, the second fails.
STAND_IN = """
import pathlib, sys, time
started = pathlib.Path(sys.argv[-1], "started")
if started.exists():
    sys.exit("training.fit: error: no luck")
started.touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


def interrupt_when_started(run):
    def wait():
        while not (run.directory / "started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def test_an_interrupt_and_a_failure_end_it_without_a_report(arguments, directory, capsys):
    command, program = [*arguments, "--folds", "1", "2"], (sys.executable, "-c", STAND_IN)
    one, two = (Run(directory / f"last-fold{fold}-seed0") for fold in (1, 2))
    interrupt_when_started(one)
    assert crossval.main(command, program) == 130
    assert not two.directory.exists()
    assert "the same command resumes" in capsys.readouterr().err

    interrupt_when_started(two)
    assert crossval.main(command, program) == 130
    assert crossval.main(command, program) == 1
    errors = capsys.readouterr().err
    assert f"{one.directory}: failed with status 1: training.fit: error: no luck" in errors
    assert errors.splitlines()[-1].startswith("training.crossval: error: 2 of 2 runs failed")
    assert not (directory / "report.md").exists()


@pytest.mark.slow
def test_trains_the_folds_and_reports(arguments, directory, folder, micro_program, capsys):
    options = ["--epochs", "3", "--protocol", "validation", "--folds", "1", "2", "--jobs", "2"]
    assert crossval.main([*arguments, *options], (*micro_program, "--eager")) == 0
    clips = {clip.name: clip for clip in load_dataset("folder", folder).clips}
    by_fold = []
    for fold in (1, 2):
        run = Run(directory / f"validation-fold{fold}-seed0")
        predictions = Evaluation.load(run.predictions)
        assert {clips[name].fold for name in predictions.names} == {fold}
        assert predictions.truth.tolist() == [clips[name].label for name in predictions.names]
        by_fold.append(np.mean(predictions.probabilities.argmax(1) == predictions.truth))
        assert json.loads(run.config.read_text())["validation_fold"] == fold + 1
        assert [row["epoch"] for row in run.read_history()] == list(range(1, 4))
    figures = json.loads((directory / "summary.json").read_text())["protocols"]["validation"]
    assert figures["accuracy_by_seed_and_fold"] == {"0": by_fold}
    cells = " | ".join(f"{100 * share:.1f}" for share in (*by_fold, np.mean(by_fold)))
    assert f"| seed 0 | {cells} |" in capsys.readouterr().out


def test_reports_both_protocols_and_their_spread(
    arguments, directory, folder, write_results, capsys, monkeypatch
):
    monkeypatch.setattr(crossval, "run_jobs", lambda *_: None)
    dataset, accuracies = load_dataset("folder", folder), [1.0, 0.5, 0.5, 0.5, 1.0, 0.0]
    for validate in (False, True):
        passed_on = [a for a in arguments if a not in ("--out", str(directory))]
        jobs = crossval.plan(directory, passed_on, dataset, [5, 1], [3, 4, 7], validate)
        write_results(jobs, accuracies)
    command = [
        *(*arguments, "--protocol", "both", "--folds", "5", "1", "--seeds", "3", "4", "7"),
    ]
    assert crossval.main(command) == 0
    printed = capsys.readouterr().out
    for line in (
        "| accuracy in % | fold 5 | fold 1 | mean |",
        "| seed 3 | 100.0 | 50.0 | 75.0 |",
        "| seed 4 | 50.0 | 100.0 | 75.0 |",
        "| seed 7 | 50.0 | 0.0 | 25.0 |",
        "| mean | 66.7 | 50.0 | 58.3 |",
        "## Protocol `last`: 58.3 ± 28.9 %",
        "Standard deviation over seeds (n = 3), of the mean over folds: 28.9.",
        "Standard deviation over folds (n = 2), of the mean over seeds: 11.8; folds are different "
        "clips, not repetitions.",
    ):
        assert line in printed.splitlines()
    report = (directory / "report.md").read_text()
    assert "Expected calibration error 0.217" in report  # confidence 0.8, 7 of 12 right
    summary = json.loads((directory / "summary.json").read_text())
    assert list(summary["protocols"]) == ["last", "validation"]
    assert summary["protocols"]["last"]["per_class_accuracy"] == {"hiss": 5 / 6, "low hum": 1 / 3}
    assert summary["recipe"]["epochs"] == 6
    validation = Run(directory / "validation-fold5-seed3")
    assert json.loads(validation.config.read_text())["validation_fold"] == 1  # cyclic
    for plot in ("confusion_matrix", "per_class_accuracy", "reliability"):
        for protocol in ("last", "validation"):
            path = directory / f"{protocol}-{plot}.png"
            assert f"({path.name})" in report
            assert path.read_bytes().startswith(b"\x89PNG")

    assert crossval.main([*command, "--epochs", "7"]) == 1
    assert "epochs was 6, is 7" in capsys.readouterr().err
    (folder / "hiss" / "0.wav").rename(folder / "hiss" / "new.wav")
    assert crossval.main(command) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "was started with other clips" in error
    assert "hiss/new.wav" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--folds", "9"], "`fold` must be one of"),
        (["--batch-size", "1", "--targets", "diagonal"], "learns nothing from batches of one clip"),
        (["--learning-rate", "-1"], "`learning_rate` must be positive"),
    ],
)
def test_a_wrong_argument_is_refused_before_any_run(arguments, change, message, directory, capsys):
    assert crossval.main([*arguments, *change]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("training.crossval: error:")
    assert message in error
    assert not directory.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [(["--fold", "none"], "unrecognized arguments: --fold none"), (["--folds", "none"], "--folds")],
)
def test_a_cross_validation_holds_out_a_fold(arguments, line, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        crossval.main([*arguments, *line])
    [error] = capsys.readouterr().err.splitlines()
    assert message in error


def test_weights_that_know_a_fold_are_refused_before_any_run(
    arguments, folder, directory, write_results, tmp_path, capsys
):
    passed_on = [argument for argument in arguments if argument not in ("--out", str(directory))]
    dataset = load_dataset("folder", folder)
    write_results(crossval.plan(tmp_path / "before", passed_on, dataset, [1], [0]), [1.0])
    source = str(tmp_path / "before" / "last-fold1-seed0")
    assert crossval.main([*arguments, "--weights", source]) == 1
    assert "the accuracy would be no test" in capsys.readouterr().err
    jobs = crossval.plan(directory, [*passed_on, "--weights", source], dataset, [1], [0])
    assert source in jobs[1, 0].arguments
    assert not directory.exists()
