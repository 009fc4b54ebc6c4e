"""Training from a pretrained audio tower, here a small one with random weights."""

import json

import keras
import numpy as np
import pytest

from edge import read_contract
from semanticac_keras import load_pretrained
from tests.micro import RECIPE
from tests.pretrained_files import replace_sentence_encoder, write_pretrained
from training import export, zeroshot
from training import fit as command
from training.learning.recipes import RECIPES

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.usefixtures("eager"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def tower(micro, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, micro, RECIPE)
    return write_pretrained(tmp_path / "tower.npz")


@pytest.fixture
def data(folder):
    return ["--dataset", "folder", "--data-dir", str(folder)]


@pytest.mark.slow
def test_a_tower_is_trained_on_own_clips_and_exported(tower, data, tmp_path, monkeypatch):
    _, loaded = replace_sentence_encoder(monkeypatch)
    run = tmp_path / "run"
    line = [*data, "--recipe", "micro", "--weights", str(tower), "--text-weights", "minilm"]
    line += ["--head-epochs", "1", "--epochs", "2", "--prompt", "{label}", "--out", str(run)]
    assert command.main(line) == 0
    assert set(loaded) == {"minilm"}
    model = keras.saving.load_model(run / "model.keras")
    before = load_pretrained(tower).audio_tower.get_weights()
    assert any(
        not np.array_equal(*pair)
        for pair in zip(model.audio_tower.get_weights(), before, strict=True)
    )
    contract = read_contract(run / "model.tflite")
    assert contract.embedding_dim == len(load_pretrained(tower).space.center)
    assert json.loads((run / "config.json").read_text())["weights"]["model"] == str(tower)


@pytest.mark.slow
def test_a_tower_classifies_without_training(tower, data, tmp_path, monkeypatch, capsys):
    replace_sentence_encoder(monkeypatch)
    line = [*data, "--weights", str(tower), "--out", str(tmp_path / "zeroshot")]
    assert zeroshot.main(line) == 0
    assert "accuracy" in capsys.readouterr().out
    bundle = tmp_path / "home.tflite"
    labels = ["--labels", "dog; smoke detector, smoke alarm"]
    assert export.main(["--weights", str(tower), *labels, "--out", str(bundle)]) == 0
    contract = read_contract(bundle)
    assert not contract.exclusive
    assert contract.prompts == ("dog", "smoke detector, smoke alarm")
