"""A shipped model is made by one command, described by its figures, and compared."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from edge.events.policy import Policy
from edge.events.thresholds import read_thresholds
from edge.inference import packaged
from edge.inference.packaged import PackagedModel
from training import crossval, reproduce
from training.datasets import Clip, DatasetError, load_dataset
from training.learning.recipes import RECIPES
from training.release import comparing, measure
from training.release.comparing import Scores
from training.release.credits import Credit, check_credits, read_credits
from training.release.folds import read_cross_validation
from training.release.others import halves
from training.release.shipment import SHIPMENTS, Shipment
from training.runs.evaluation import Evaluation
from training.runs.run import RunError


def other(name, source):
    return Clip(name, label=0, fold=1, source=source, path=None, duration_seconds=5.0)


def test_halves_share_no_kind_of_sound_and_no_recording():
    others = [(f"kind {i % 7}", other(f"clip {i}", f"recording {i // 2}")) for i in range(70)]
    first, second = halves(others)
    assert not set(first.categories) & set(second.categories)
    sources = [{clip.source for clip in half.clips} for half in (first, second)]
    assert not sources[0] & sources[1]
    assert min(len(first.clips), len(second.clips)) >= 10
    assert halves(others[::-1])[0].categories == first.categories
    with pytest.raises(DatasetError, match="at least two categories") as caught:
        halves(others[:1])
    assert "Give --data-dir" in str(caught.value)


@pytest.mark.parametrize(
    ("events", "low", "high"),
    # Garwood's limits, as tables of them have it.
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390)],
)
def test_the_interval_of_a_rate(events, low, high):
    assert measure.rate_interval(events, 2.0) == pytest.approx((low / 2, high / 2), abs=1e-3)


def test_every_recording_of_esc10_has_its_author():
    path = SHIPMENTS["esc10-small"].credits
    (credit,) = read_credits(path, ["100032"])
    assert credit == Credit("100032", "nfrae", "rose_bark.wav", "CC0")
    assert credit.url == "https://freesound.org/s/100032/"
    assert len(read_credits(path, [line.split(",")[0] for line in _lines(path)])) == 304
    with pytest.raises(DatasetError, match="1 recordings have no author"):
        read_credits(path, ["100032", "7"])


def _lines(path):
    return path.read_text(encoding="utf-8").splitlines()[1:]


def test_authors_are_those_of_the_archive(tmp_path):
    archive = tmp_path / "LICENSE"
    archive.write_text(
        "101 - Dog:\n- [1-7-A.ogg]:  clip derived from a (b).wav "
        "(http://www.freesound.org/people/A%20B/sounds/7/) by A B [CC-BY]\n"
    )
    check_credits([Credit("7", "A B", "a (b).wav", "CC BY")], archive)
    for wrong in (Credit("7", "A C", "a", "CC BY"), Credit("7", "A B", "a", "CC0")):
        with pytest.raises(DatasetError, match="other authors or licences of 1 recordings: 7"):
            check_credits([wrong], archive)


def test_a_difference_beyond_a_tolerance_is_seen():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 4
    shipped = (0.8 * np.eye(4)[truth] + 0.05).astype(np.float32)
    figures = {
        "data": {"sha256": "a" * 64},
        "recipe": {"epochs": 3, "augmentation": {"mixup": 0.1}},
        "bundle": {"labels": ["a"] * 4, "bytes": 5},
        "others": {"sha256": "b", "tested": {"per_hour": 6.0, "per_hour_interval": [2.0, 11.0]}},
    }

    def wrong(made=figures, scores=shipped, most_bytes=5):
        rows = comparing.compare(figures, made, Scores(shipped, scores, truth), most_bytes)
        return [row.what for row in rows if not row.fits]

    assert wrong() == []
    noise = rng.uniform(-0.02, 0.02, shipped.shape).astype(np.float32)
    assert wrong(scores=shipped + noise) == []
    assert wrong(scores=np.roll(shipped, 3, axis=0)) == [
        *("right on the training clips", "clips with the same label"),
        "mean difference of a score",
    ]
    assert wrong(most_bytes=4) == ["bytes"]
    # Older versions wrote the options of distillation into every recipe.
    assert wrong(figures | {"recipe": {**figures["recipe"], "teacher_views": 8}}) == []
    assert wrong(figures | {"data": {"sha256": "c"}}) == ["data, SHA-256"]
    assert wrong(figures | {"recipe": {"epochs": 3, "augmentation": {"mixup": 0.2}}}) == ["recipe"]
    louder = {"sha256": "b", "tested": {"per_hour": 20.0, "per_hour_interval": [12.0, 30.0]}}
    assert wrong(figures | {"others": louder}) == ["false accepts an hour"]
    # Other sounds say nothing about the model.
    assert wrong(figures | {"others": louder | {"sha256": "d"}}) == []


@pytest.fixture
def shipment(micro, micro_arguments, folder, tmp_path, monkeypatch):
    """The micro preset on the folder, to be shipped to an empty package."""
    clips = load_dataset("folder", folder, progress=False).clips
    credits = tmp_path / "credits.csv"
    lines = [f'{clip.source},A_uthor,"[{clip.name}]",CC0' for clip in clips]
    credits.write_text("\n".join(["source,author,title,licence", *lines]))
    # Sounds of one label that are called otherwise.
    others = [("hum" if clip.label else "snake", clip) for clip in clips]
    shipment = Shipment(
        name="micro",
        dataset="folder",
        recipe=replace(RECIPES[micro], batch_size=5),
        others=lambda data_dir, progress: others,
        credits=credits,
        licence="CC0",
        policy=Policy(smoothing_windows=2),
        hop_seconds=0.32,
        false_accepts_per_hour=1e6,
    )
    monkeypatch.setattr(reproduce, "SHIPMENTS", {"micro": shipment})
    monkeypatch.setattr(packaged, "NAME", "micro")
    monkeypatch.setattr(packaged, "DIRECTORY", tmp_path / "models")
    return shipment


def test_a_cross_validation_keeps_its_bundles_if_asked_to(micro_arguments, folder, tmp_path):
    dataset = load_dataset("folder", folder, progress=False)
    for keep, ending in ((True, ["--quantization", "dynamic_int8"]), (False, ["--no-export"])):
        job = crossval.plan(tmp_path, micro_arguments, dataset, [1], [0], keep_bundles=keep)[1, 0]
        assert list(job.arguments)[-len(ending) :] == ending


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning", "ignore::DeprecationWarning")
def test_one_command_makes_describes_and_compares(shipment, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "made"
    command = ["micro", "--data-dir", str(folder), "--out", str(out)]
    assert reproduce.main([*command, "--install"]) == 0
    assert "no such model is shipped" in capsys.readouterr().out
    files = PackagedModel.at(tmp_path / "models", "micro")
    assert packaged.packaged_model() == files
    figures = json.loads(files.figures.read_text())
    assert figures["data"]["clips"] == 10
    assert figures["bundle"]["bytes"] == files.bundle.stat().st_size
    assert list(read_thresholds(files.thresholds)) == ["hiss", "low hum"]
    tested = figures["others"]["tested"]
    assert tested["events"] == sum(tested["events_by_label"].values())
    card = files.card.read_text()
    assert "It knows 2 sounds: hiss, low hum." in card
    assert "by A\\_uthor, CC0" in card
    assert "Not known: no cross-validation" in card

    # The same again finds nothing to train, and itself; now with what models of folds say.
    folds = cross_validation(tmp_path / "folds", shipment, out / "micro.tflite")
    assert reproduce.main([*command, "--crossval", str(folds)]) == 0
    table = capsys.readouterr().out
    assert "NO" not in table
    assert "| clips with the same label |  | 100.0% | at least 95% | yes |" in table
    figures = json.loads((out / "micro.json").read_text())
    assert figures["held_out"]["sounds"] == 4
    card = (out / "micro.md").read_text()
    assert "**75.0 %** of held-out clips in 2-fold" in card
    assert "crossval --data-dir folds\n" in card
    assert str(tmp_path) not in card + (out / "micro.json").read_text()
    assert f"({figures['held_out']['found']} of 4, each alone" in card

    bundles = sorted(folds.glob("*/model.tflite"))
    bundles[1].unlink()
    assert reproduce.main([*command, "--crossval", str(folds)]) == 0
    assert "thresholds above, 1 models of" in (out / "micro.md").read_text()

    bundles[0].unlink()
    assert reproduce.main([*command, "--crossval", str(folds)]) == 0
    card = (out / "micro.md").read_text()
    assert "for **50%** of them (2 of 4), and another label's for 2." in card

    other = replace(shipment, recipe=replace(shipment.recipe, epochs=1))
    monkeypatch.setattr(reproduce, "SHIPMENTS", {"micro": other})
    assert reproduce.main(command) == 1
    assert "epochs was 6, is 1" in capsys.readouterr().err
    with pytest.raises(RunError, match="of another recipe: epochs was 6, is 1"):
        read_cross_validation(folds, "sounds", other.recipe, None)
    with pytest.raises(RunError, match="must hold a finished cross-validation"):
        read_cross_validation(out, "sounds", other.recipe, None)


def cross_validation(directory, shipment, bundle):
    """What a cross-validation over two folds with that recipe leaves."""
    figures = {
        "folds": [1, 2],
        "seeds": [3],
        "accuracy": 0.75,
        "accuracy_by_seed_and_fold": {"3": [1.0, 0.5]},
        "std_over_seeds": None,
        "std_over_folds": 0.35,
        "per_class_accuracy": {"hiss": 1.0, "low hum": 0.5},
    }
    recipe = {name: value for name, value in asdict(shipment.recipe).items() if name != "seed"}
    summary = {
        "dataset": "sounds",
        "recipe": recipe,
        "protocols": {"last": figures},
        "command": ["crossval", "--data-dir", str(directory)],
        "git_revision": None,
    }
    for fold in figures["folds"]:
        run = directory / f"last-fold{fold}-seed3"
        run.mkdir(parents=True)
        shutil.copyfile(bundle, run / "model.tflite")
        scores = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
        evaluation = Evaluation(("hiss", "low hum"), ("a", "b"), np.array([0, 1]), scores)
        evaluation.save(run / "predictions.npz")
    (directory / "summary.json").write_text(json.dumps(summary))
    return directory
