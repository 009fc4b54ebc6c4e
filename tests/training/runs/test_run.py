import json

import pytest

from training.runs.run import (
    Run,
    RunError,
    best_epoch,
    flat_differences,
    free_directory,
    portable,
    provenance,
)

CLIPS = {f"{label}/{i}.wav": [label, i, 100] for label in ("dog", "rain") for i in (1, 2, 3)}
SETTINGS = {"fold": 1, "recipe": {"epochs": 3, "noise_snr_db": (10.0, 120.0)}}


@pytest.fixture
def run(tmp_path):
    """A run that has been started."""
    run = Run(tmp_path / "runs" / "a")
    run.start(SETTINGS, clips=CLIPS)
    return run


def test_start_writes_the_settings_and_what_repeats_the_run(run):
    config = json.loads(run.config.read_text())
    assert config["recipe"] == {"epochs": 3, "noise_snr_db": [10.0, 120.0]}
    assert config["command"][:3] == ["python", "-m", "training.fit"]
    assert config["versions"]["numpy"]


def test_a_used_directory_is_refused(run, tmp_path):
    before = run.config.read_text()
    with pytest.raises(RunError, match="already holds a run; continue it with --resume"):
        run.start({"fold": 2})
    assert run.config.read_text() == before
    Run(tmp_path).check_unused()


def test_a_run_resumes_with_the_same_settings_only(run):
    run.check_resumable(SETTINGS)
    changed = {"fold": 2, "recipe": {**SETTINGS["recipe"], "epochs": 4}}
    with pytest.raises(RunError, match=r"other settings: fold was 1, is 2; epochs was 3, is 4\."):
        run.check_resumable(changed)


def test_a_missing_or_finished_run_does_not_resume(run, tmp_path):
    with pytest.raises(RunError, match="holds no run to resume"):
        Run(tmp_path / "nowhere").check_resumable(SETTINGS)
    run.metrics.write_text("{}")
    with pytest.raises(RunError, match="there is nothing to resume"):
        run.check_resumable(SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rain/4.wav": ["rain", 1, 100]}, "rain/4.wav"),
        ({"rain/1.wav": None}, "rain/1.wav"),
        ({"rain/1.wav": None, "rain/x.wav": ["rain", 1, 100]}, "rain/x.wav"),
        ({"rain/1.wav": ["dog", 1, 100]}, "rain/1.wav"),
        ({"rain/1.wav": ["rain", 2, 100]}, "rain/1.wav"),
        ({"rain/1.wav": ["rain", 1, 99]}, "rain/1.wav"),
        ({f"rain/{i}.wav": None for i in (1, 2, 3)}, "rain/3.wav"),
    ],
)
def test_a_run_resumes_with_the_same_clips_only(run, change, message):
    run.check_resumable(SETTINGS, CLIPS)
    now = {name: entry for name, entry in {**CLIPS, **change}.items() if entry is not None}
    with pytest.raises(RunError, match="was started with other clips") as caught:
        run.check_resumable(SETTINGS, now)
    [line] = str(caught.value).splitlines()
    assert message in line
    assert len(line) < 500


def test_a_changed_list_of_clips_is_refused(run):
    run.clips.write_text("{}")
    with pytest.raises(RunError, match=r"clips.json is missing or was changed"):
        run.check_resumable(SETTINGS, CLIPS)


def test_a_run_without_a_list_of_clips_resumes_with_a_warning(tmp_path, capsys):
    run = Run(tmp_path)
    run.start(SETTINGS)
    run.check_resumable(SETTINGS, CLIPS)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")


def test_a_finished_run_is_extended_by_more_epochs_only(run):
    run.metrics.write_text("{}")
    longer = {**SETTINGS, "recipe": {**SETTINGS["recipe"], "epochs": 9}}
    with pytest.raises(RunError, match=r"checkpoint.* does not exist, so"):
        run.check_resumable(longer)
    run.checkpoint.touch()
    for epochs in (2, 3):
        with pytest.raises(RunError, match="finished run of 3 epochs; there is nothing to resume"):
            run.check_resumable({**SETTINGS, "recipe": {**longer["recipe"], "epochs": epochs}})
    with pytest.raises(RunError, match="other settings: fold was 1, is 2"):
        run.check_resumable({**longer, "fold": 2})
    run.check_resumable(longer)
    run.extend(9)
    assert not run.metrics.exists()
    run.check_resumable(longer)
    assert json.loads(run.config.read_text())["extended_at"] == [3]


def test_the_clips_that_a_run_was_trained_on_are_known(run, tmp_path):
    assert set(run.trained_on()) == {name for name, (_, fold, _) in CLIPS.items() if fold != 1}
    assert Run(tmp_path / "nowhere").trained_on() == {}


def test_the_history_is_read_as_written(run):
    assert run.read_history() == []
    rows = [{"epoch": 1.0, "loss": 0.1 + 0.2}, {"epoch": 2.0, "loss": 1e-9}]
    run.write_history(rows)
    assert run.read_history() == rows
    run.write_history([])
    assert run.read_history() == []


def test_only_the_selected_weights_are_kept(run):
    for epoch in (1, 2, 12):
        run.selected(epoch).touch()
    run.keep_selected(2)
    assert list(run.directory.glob("selected-*")) == [run.selected(2)]
    run.keep_selected(None)
    assert not list(run.directory.glob("selected-*"))


def test_the_last_of_equal_epochs_is_best():
    rows = [{"epoch": i + 1.0, "val_accuracy": share} for i, share in enumerate([0.5, 1, 1, 0.9])]
    assert best_epoch(rows) == 3
    assert best_epoch([]) is None


def test_a_free_directory_is_numbered_after_the_used_ones(tmp_path):
    preferred = tmp_path / "esc10-fold1"
    assert free_directory(preferred) == preferred
    for name in ("esc10-fold1", "esc10-fold1-2"):
        Run(tmp_path / name).start({})
    assert free_directory(preferred) == tmp_path / "esc10-fold1-3"


def test_differences_are_those_of_the_leaves():
    before = {"a": 1, "b": {"c": 2, "d": 3}, "gone": 4}
    now = {"a": 1, "b": {"c": 2, "d": 5}, "new": None, "other": 6}
    assert flat_differences(before, now) == [("d", 3, 5), ("gone", 4, None), ("other", None, 6)]


def test_a_published_command_has_no_absolute_paths():
    command = ["python", "-m", "training.fit", "--data-dir", "/home/me/ESC-50", "--out", "runs/a"]
    assert portable(command) == [*command[:4], "ESC-50", "--out", "runs/a"]


def test_provenance_names_the_program(monkeypatch):
    monkeypatch.setattr("sys.argv", ["crossval.py", "--seeds", "1"])
    made = provenance("training.crossval")
    assert made["command"] == ["python", "-m", "training.crossval", "--seeds", "1"]
    assert made["python"].startswith("3.")
