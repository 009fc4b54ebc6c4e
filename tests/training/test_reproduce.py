"""One command trains, measures, describes and compares a packaged model."""

import json
from dataclasses import replace

import pytest

from edge.events.policy import Policy
from edge.events.thresholds import read_thresholds
from edge.inference import packaged
from edge.inference.packaged import PackagedModel
from tests.training.release.cross_validations import write_cross_validation
from training import reproduce
from training.datasets import load_dataset
from training.learning.recipes import RECIPES
from training.release.shipment import Shipment


@pytest.fixture
def shipment(micro, micro_arguments, folder, tmp_path, monkeypatch):
    """The micro preset, trained on the folder, for an empty package."""
    clips = load_dataset("folder", folder, progress=False).clips
    credits = tmp_path / "credits.csv"
    lines = [f'{clip.source},A_uthor,"[{clip.name}]",CC0' for clip in clips]
    credits.write_text("\n".join(["source,author,title,licence", *lines]))
    # The same sounds under other categories.
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning", "ignore::DeprecationWarning")
def test_one_command_trains_describes_and_compares(shipment, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "made"
    command = ["micro", "--data-dir", str(folder), "--out", str(out)]
    assert reproduce.main([*command, "--install"]) == 0
    assert "no comparison: the package has no such model" in capsys.readouterr().out
    files = PackagedModel.at(tmp_path / "models", "micro")
    assert packaged.packaged_model() == files
    figures = json.loads(files.figures.read_text())
    assert figures["data"]["clips"] == 10
    assert figures["bundle"]["bytes"] == files.bundle.stat().st_size
    assert list(read_thresholds(files.thresholds)) == ["hiss", "low hum"]
    tested = figures["others"]["tested"]
    assert tested["events"] == sum(tested["events_by_label"].values())
    card = files.card.read_text()
    assert "It recognises 2 sounds: hiss, low hum." in card
    assert "by A\\_uthor, CC0" in card
    assert "Unknown: no cross-validation" in card

    # A second run reuses the training and equals the installed model; it adds the folds.
    folds = write_cross_validation(
        tmp_path / "folds", shipment.recipe, (out / "micro.tflite").read_bytes()
    )
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
    assert "thresholds above, 1 int8 models of" in (out / "micro.md").read_text()

    bundles[0].unlink()
    assert reproduce.main([*command, "--crossval", str(folds)]) == 0
    card = (out / "micro.md").read_text()
    assert "for **50%** of the clips (2 of 4), and that of another label for 2." in card

    other = replace(shipment, recipe=replace(shipment.recipe, epochs=1))
    monkeypatch.setattr(reproduce, "SHIPMENTS", {"micro": other})
    assert reproduce.main(command) == 1
    assert "epochs was 6, is 1" in capsys.readouterr().err
