"""Classification by text alone, with an untrained micro model or chosen predictions."""

import json

import keras
import numpy as np
import pytest

from semanticac_keras import SemanticAC
from training import zeroshot
from training.datasets import load_dataset
from training.runs.evaluation import Evaluation
from training.runs.published import LABEL, PUBLISHED, Published
from training.runs.run import Run

pytest.importorskip("tensorflow")


@pytest.fixture
def line(folder, tmp_path):
    """Command line of a published model on the folder, with its results in `out`."""
    data = ["--dataset", "folder", "--data-dir", str(folder)]
    return [*data, "--weights", "published", "--out", str(tmp_path / "out")]


@pytest.fixture
def published(micro, eager, monkeypatch):
    """Models that `SemanticAC.from_pretrained` has made: untrained ones."""

    def from_pretrained(source, labels, prompt=None, label_texts=None):
        keras.utils.set_random_seed(0)
        prompt = prompt or "a {label}"
        models.append(SemanticAC.from_preset(micro, labels, prompt, label_texts=label_texts))
        return models[-1]

    models = []
    monkeypatch.setattr(SemanticAC, "from_pretrained", from_pretrained, raising=False)
    return models


@pytest.fixture
def predicted(published, monkeypatch):
    """Make the first 3 of the 5 clips of each class right, with a probability of 0.8."""

    def predict(self, clips, verbose):
        right = np.arange(10) % 5 < 3
        probabilities = np.full((10, 2), 0.2, np.float32)
        probabilities[np.arange(10), np.where(right, truth, 1 - truth)] = 0.8
        return probabilities

    truth = np.repeat([0, 1], 5)
    monkeypatch.setattr(SemanticAC, "predict", predict)


def results(tmp_path):
    return json.loads((tmp_path / "out" / "zeroshot.json").read_text())


def test_each_clip_is_judged_once_by_the_model(line, published, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(zeroshot, "_CLIPS_AT_ONCE", 4)  # 10 clips in three parts
    assert zeroshot.main([*line, "--prompt", "sound of {label}"]) == 0
    (model,) = published
    assert model.prompts == ("sound of hiss", "sound of low hum")
    dataset = load_dataset("folder", folder, progress=False)
    evaluation = Evaluation.load(tmp_path / "out" / "predictions.npz")
    assert evaluation.names == tuple(clip.name for clip in dataset.clips)
    clips = dataset.load(range(10), model.front_end.sample_rate_hz)
    np.testing.assert_allclose(evaluation.probabilities, model.predict(clips, verbose=0), atol=1e-6)
    assert results(tmp_path)["accuracy"] == evaluation.accuracy


def test_the_report_has_errors_folds_confusions_and_published_figures(
    line, predicted, tmp_path, capsys, monkeypatch
):
    known = {("published", "sounds"): (Published("75.0 ± 1.0", "the {label}", "[a](b)"),)}
    monkeypatch.setattr(zeroshot, "PUBLISHED", known)
    assert zeroshot.main(line) == 0
    figures = results(tmp_path)
    assert figures["accuracy"] == 0.6
    assert (figures["correct_clips"], figures["clips"]) == (6, 10)
    assert figures["standard_error"] == pytest.approx((0.6 * 0.4 / 10) ** 0.5)
    by_fold = np.array(list(figures["accuracy_by_fold"].values()))
    assert len(by_fold) == 5
    assert figures["mean_over_folds"] == pytest.approx(by_fold.mean())
    assert figures["std_over_folds"] == pytest.approx(by_fold.std(ddof=1))
    assert figures["hardest_pairs"] == [["hiss", "low hum", 2, 5], ["low hum", "hiss", 2, 5]]
    assert figures["texts"] == {"hiss": ["hiss"], "low hum": ["low hum"]}

    report = (tmp_path / "out" / "report.md").read_text()
    table = [
        "| 60.0 ± 15.5 | a {label} | measured: 6 of 10 clips |",
        f"| 75.0 ± 1.0 | the {{label}} | {LABEL}: [a](b) |",
    ]
    assert "\n".join(table) in report
    shown = capsys.readouterr().out
    assert "\n".join(table) in shown
    assert shown.endswith(f"report: {tmp_path / 'out' / 'report.md'}\n")
    assert "| hiss | low hum | 2 of 5 |" in report
    assert "| low hum | 60.0% |" in report
    assert (tmp_path / "out" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_is_published_for_its_weights_and_dataset_only(line, predicted, tmp_path):
    assert zeroshot.main(line) == 0
    assert results(tmp_path)["published"] == []
    assert LABEL not in (tmp_path / "out" / "report.md").read_text()
    assert PUBLISHED["clap-htsat-unfused", "esc50"][0].accuracy == "91.55 ± 0.62"


def test_texts_take_the_place_of_labels(line, predicted, published, tmp_path):
    (tmp_path / "texts.toml").write_text('hiss = ["steam", "a tyre"]')
    assert zeroshot.main([*line, "--label-texts", str(tmp_path / "texts.toml")]) == 0
    (model,) = published
    assert model.prompts == ("a steam; a a tyre", "a low hum")
    assert "| hiss | steam; a tyre |" in (tmp_path / "out" / "report.md").read_text()
    assert results(tmp_path)["per_class_accuracy"] == {"hiss": 0.6, "low hum": 0.6}


def test_a_tagger_answers_by_its_class_names(
    folder, tiny_tagger, byte_encoder, eager, tmp_path, capsys
):
    (tmp_path / "names.txt").write_text("Low hum\nWhistle\nHiss\n")
    line = ["--dataset", "folder", "--data-dir", str(folder), "--out", str(tmp_path / "out")]
    line += ["--weights", str(tiny_tagger), "--tagger-rate", "32000", "--background", str(folder)]
    line += ["--text-weights", byte_encoder]
    assert zeroshot.main(line) == 1
    assert "Give one (--tagger-labels)" in capsys.readouterr().err.splitlines()[-1]
    assert zeroshot.main([*line, "--tagger-labels", str(tmp_path / "names.txt")]) == 0
    figures = results(tmp_path)
    assert figures["class_names"] == {
        "labels": str(tmp_path / "names.txt"),
        "rate_hz": "32000",
        "text_weights": byte_encoder,
        "background": str(folder),
    }
    near = figures["nearest_classes"]["low hum"]
    assert f"| low hum | {near} |" in (tmp_path / "out" / "report.md").read_text()


@pytest.fixture
def own(micro, tmp_path):
    """`own(clips)`: a run that was trained on these clips, and knows the labels a and hiss."""

    def own(clips):
        run = Run(tmp_path / "run")
        run.start({"fold": None}, clips=clips)
        SemanticAC.from_preset(micro, ["a", "hiss"]).save(run.model)
        return ["--weights", str(run.directory)]

    return own


def test_ones_own_model_is_judged_on_clips_that_it_has_not_heard(
    line, own, predicted, folder, tmp_path, capsys
):
    heard = {"x.wav": ["a", 1, 5], "y.wav": ["hiss", 1, 5]}
    assert zeroshot.main([*line, *own(heard)]) == 0
    sentence = "The model was trained on other clips of 1 of these labels (hiss)."
    assert sentence in (tmp_path / "out" / "report.md").read_text()

    (tmp_path / "run" / "config.json").unlink()
    listing = load_dataset("folder", folder, progress=False).listing()
    capsys.readouterr()
    again = [*line, *own(listing), "--out", str(tmp_path / "again")]
    assert zeroshot.main(again) == 1
    (error,) = capsys.readouterr().err.splitlines()[-1:]
    assert "--weights was trained on 10 of the 10 clips (hiss/" in error
    assert not (tmp_path / "again" / "config.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "nowhere.keras"], "nowhere.keras does not exist"),
        (["--prompt", "a sound"], "`prompt` must contain {label}. Received: 'a sound'"),
        (["--label-texts", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_an_error_is_one_line(options, message, line, tmp_path, capsys):
    assert zeroshot.main([*line, *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training.zeroshot: error: ")
    assert message in error
    assert not (tmp_path / "out" / "zeroshot.json").exists()


def test_a_directory_with_results_is_refused(line, predicted, tmp_path, capsys):
    assert zeroshot.main(line) == 0
    assert zeroshot.main(line) == 1
    assert f"{tmp_path / 'out'} already holds a run; choose another" in capsys.readouterr().err
