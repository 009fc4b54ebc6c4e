"""The command `training.pretrain`: from its arguments to the files of the run."""

import json

import numpy as np
import pytest

from semanticac_keras import presets
from semanticac_keras.pretrained import TextSpace
from tests import micro
from tests.clap_files import write_clap
from training import pretrain
from training.runs.run import Run

NAMES = "display_name\n{}\n"


@pytest.fixture
def learned(monkeypatch, corpus) -> list:
    """Replace corpus, sentence encoder and training."""
    calls = []

    def untrained(plan, corpus, targets, space, run, about, labelled):
        calls.append((plan, space, about, labelled, targets))

    monkeypatch.setitem(presets.PRESETS, micro.NAME, micro.PRESET)
    monkeypatch.setattr(pretrain, "Corpus", lambda path: corpus)
    monkeypatch.setattr(type(corpus), "may_ship", True)
    monkeypatch.setattr(
        pretrain,
        "text_space",
        lambda names, encoder: TextSpace(tuple(names), np.eye(len(names), 8), np.zeros(8), encoder),
    )
    monkeypatch.setattr(pretrain, "pretrain", untrained)
    return calls


@pytest.fixture
def arguments(tmp_path, tiny_tagger, teacher) -> list[str]:
    names = tmp_path / "names.csv"
    names.write_text(NAMES.format("\n".join(f"class {i}" for i in range(teacher.num_scores))))
    return [
        *("--corpus", str(tmp_path), "--teacher", str(tiny_tagger), "--tagger-rate", "32000"),
        *("--tagger-labels", str(names), "--preset", micro.NAME, "--epochs", "3"),
        *("--out", str(tmp_path / "run")),
    ]


def test_a_run_has_settings_and_targets(learned, arguments, tmp_path, capsys) -> None:
    assert pretrain.main(arguments) == 0
    run = Run(tmp_path / "run")
    (plan, space, about, labelled, _), *_ = learned
    assert labelled is None
    assert plan.epochs == 3
    assert space.names[1] == "class 1"
    config = json.loads(run.config.read_text())
    assert config["teacher"]["name"] == "tiny_tagger.tflite"
    assert {name: config[name] for name in about} == json.loads(json.dumps(about))
    assert list((run.directory / "targets").glob("*-scores.npy"))
    assert str(tmp_path / "run" / "pretrained.npz") in capsys.readouterr().out


def test_labelled_clips_judge_the_epochs(learned, arguments, folder) -> None:
    pytest.importorskip("sklearn")
    assert pretrain.main([*arguments, "--judge-on", str(folder)]) == 0
    assert len(learned[0][3].clips) == 10


def test_a_run_is_continued_with_the_same_settings_only(learned, arguments, capsys) -> None:
    assert pretrain.main(arguments) == 0
    assert pretrain.main(arguments) == 1
    assert "already holds a run" in capsys.readouterr().err
    assert pretrain.main([*arguments, "--resume"]) == 0
    assert pretrain.main([*arguments, "--resume", "--seed", "1"]) == 1
    assert "seed" in capsys.readouterr().err


def test_wrong_names_and_teachers_are_one_line(learned, arguments, tmp_path, capsys) -> None:
    (tmp_path / "names.csv").write_text(NAMES.format("class 0"))
    assert pretrain.main(arguments) == 1
    arguments[arguments.index("--teacher") + 1] = "nowhere.tflite"
    assert pretrain.main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("training.pretrain: error: ") for line in lines] == [True, True]
    assert not (tmp_path / "run").exists()


def test_a_tagger_and_a_clap_teach_together(learned, arguments, tmp_path, capsys) -> None:
    clap = tmp_path / "my-clap"
    clap.mkdir()
    write_clap(clap)
    at = arguments.index("--teacher") + 1
    both = [*arguments[:at], str(clap), *arguments[at:]]
    names = tmp_path / "names.csv"
    names.write_text("\n".join(("dog", "rain", "wind")))
    assert pretrain.main(both) == 0
    targets = learned[0][4]
    assert [each.num_scores for each in targets] == [3, 3]
    quick, slow = (each.grid.hop_frames for each in targets)  # the longest windows come last
    assert slow % quick == 0
    assert slow > quick
    assert {path.name for path in (tmp_path / "run" / "targets").iterdir()} == {
        "tiny_tagger.tflite",
        "my-clap",
    }
    config = json.loads(Run(tmp_path / "run").config.read_text())
    assert [each["name"] for each in config["more_teachers"]] == ["my-clap"]


def test_a_clap_alone_is_told_the_classes(learned, arguments, tmp_path, capsys) -> None:
    clap = tmp_path / "my-clap"
    clap.mkdir()
    write_clap(clap)
    arguments[arguments.index("--teacher") + 1] = str(clap)
    at = arguments.index("--tagger-labels")
    assert pretrain.main([*arguments[:at], *arguments[at + 2 :]]) == 1
    assert "needs names of classes to score: add --tagger-labels" in capsys.readouterr().err
    (tmp_path / "names.csv").write_text("dog\nrain")
    assert pretrain.main(arguments) == 0
    assert learned[0][1].names == ("dog", "rain")


def test_teachers_of_the_same_name_are_refused(learned, arguments, capsys) -> None:
    at = arguments.index("--teacher") + 1
    assert pretrain.main([*arguments[:at], arguments[at], *arguments[at:]]) == 1
    assert "must have different names" in capsys.readouterr().err
