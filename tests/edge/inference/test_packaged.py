"""Without --model, the packaged model is used, with the decision settings tuned for it."""

import argparse
import logging
import shutil

import pytest
import soundfile

from edge.cli import main
from edge.config.options import SettingsError
from edge.config.settings import add_settings, read_settings
from edge.inference import packaged
from edge.inference.packaged import PackagedModel

LABELS = ("rain", "sea waves", "wind", "dog", "Glocke ♪")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An installation without a model."""
    monkeypatch.setattr(packaged, "DIRECTORY", tmp_path / "models")
    monkeypatch.delenv("SEMANTICAC_MODEL", raising=False)
    return tmp_path / "models"


@pytest.fixture
def model(empty, log_mel_bundle):
    """The tiny model in place of the packaged one."""
    empty.mkdir()
    files = PackagedModel.at(empty, packaged.NAME)
    shutil.copyfile(log_mel_bundle, files.bundle)
    files.settings.write_text(
        f"[model]\nmodel = '{files.bundle.name}'\n"
        f"[decisions]\nsmoothing = 4\nthresholds = '{files.thresholds.name}'\n"
    )
    lines = [f"'{label}' = 0.9" for label in LABELS]
    files.thresholds.write_text("\n".join(["[thresholds]", *lines]))
    files.card.write_text("# A tiny model ♪\n", encoding="utf-8")
    return files


@pytest.fixture
def recording(tmp_path, make_sound):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_sound(96_000), 32_000)
    return path


def read(*arguments):
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return read_settings(parser.parse_args(["--mic", *arguments]))


def test_the_packaged_model_is_used_with_its_decisions(model):
    settings = read()
    assert settings.model.model == model.bundle
    assert settings.decisions.thresholds == model.thresholds
    assert settings.decisions.smoothing == 4


def test_given_settings_override_the_packaged_ones(model, tmp_path):
    config = tmp_path / "listener.toml"
    config.write_text("[decisions]\nsmoothing = 2\n")
    settings = read("--config", str(config), "--thresholds", "mine.toml")
    assert settings.model.model == model.bundle
    assert (settings.decisions.smoothing, settings.decisions.thresholds.name) == (2, "mine.toml")
    # A threshold for all labels replaces the thresholds of individual labels.
    decisions = read("--threshold", "0.7").decisions
    assert (decisions.threshold, decisions.thresholds, decisions.smoothing) == (0.7, None, 4)


def test_another_model_uses_the_default_decisions(model, monkeypatch):
    decisions = read("--model", "other.tflite").decisions
    assert (decisions.smoothing, decisions.thresholds) == (3, None)
    monkeypatch.setenv("SEMANTICAC_MODEL", "other.tflite")
    assert read().decisions == decisions


def test_a_missing_packaged_model_is_reported(empty, capsys):
    with pytest.raises(SettingsError, match=r"no packaged model: give a bundle with --model"):
        read()
    for line in (["--mic"], ["check", "--mic"], ["tune", "--background", "a", "b"]):
        with pytest.raises(SystemExit, match="2"):
            main([*line, *(["--false-accepts-per-hour", "1"] if line[0] == "tune" else [])])
        assert "give a bundle with --model" in capsys.readouterr().err
    assert main(["model"]) == 1
    assert "this installation has no packaged model" in capsys.readouterr().err


def test_the_card_is_printed(model, capsys):
    assert main(["model"]) == 0
    assert capsys.readouterr().out == "# A tiny model ♪\n"
    assert main(["model", "--path"]) == 0
    assert capsys.readouterr().out == f"{model.bundle}\n"


def test_every_command_reports_that_it_uses_the_packaged_model(model, recording, capsys, tmp_path):
    assert main(["--file", str(recording), "--json"]) == 0
    printed = capsys.readouterr()
    assert '"rain"' in printed.out
    assert "No --model: using the packaged esc10-small.tflite." in printed.err

    assert main(["check", "--file", str(recording)]) == 0
    lines = capsys.readouterr().out
    assert f"{model.bundle} (packaged): 5 labels" in lines
    assert "threshold of their own: 5), smoothed over 4 s" in lines

    assert main(["install-service", "--mic"]) == 0
    printed = capsys.readouterr()
    assert "--mic\n" in printed.out
    assert f"the service uses the packaged {model.bundle}" in printed.err

    out = tmp_path / "thresholds.toml"
    tune = ["tune", "--background", str(recording), "--false-accepts-per-hour", "1e6"]
    assert main([*tune, "--out", str(out)]) == 0
    assert "esc10-small.tflite" in out.read_text()
    logging.getLogger("semanticac_edge").handlers.clear()
