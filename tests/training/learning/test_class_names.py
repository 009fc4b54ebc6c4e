"""A tagger that answers labels by its class names, from the command line."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile

from semanticac_keras import CheckpointError, SemanticAC, Tagger, TaggerError
from semanticac_keras.sound_files import SoundFileError
from training.learning.class_names import (
    ClassNames,
    class_name_options,
    model_of_tagger,
    nearest_names,
)


@pytest.fixture
def names(byte_encoder, tmp_path):
    """The names of the tagger's three classes, its rate and an encoder."""
    (tmp_path / "names.txt").write_text("Low hum\nWhistle\nHiss\n")
    return ClassNames(tmp_path / "names.txt", 32_000, byte_encoder)


def test_options_of_the_command_line(tmp_path):
    parser = class_name_options()
    assert ClassNames.of(parser.parse_args([])) == ClassNames()
    line = ["--tagger-labels", "a.csv", "--tagger-rate", "48000", "--text-weights", "encoder"]
    names = ClassNames.of(parser.parse_args([*line, "--background", str(tmp_path)]))
    assert names == ClassNames(Path("a.csv"), 48_000, "encoder", tmp_path)
    assert names.given(pretrained=False) == ["--tagger-labels", "--text-weights", "--background"]
    assert names.given(pretrained=True) == ["--tagger-labels", "--background"]


def test_a_model_of_the_tagger_and_its_names(tiny_tagger, names):
    model = model_of_tagger(str(tiny_tagger), ["a hiss", "wind"], None, names)
    assert model.prompts == ("a hiss", "wind")
    assert model.front_end.sample_rate_hz == 32_000
    near = nearest_names(model)
    assert list(near) == ["a hiss", "wind"]
    assert {part.rsplit(" ", 1)[0] for part in near["wind"].split(", ")} == {
        *("Low hum", "Whistle", "Hiss"),
    }
    model = model_of_tagger(str(tiny_tagger), ["a hiss", "wind"], "the {label}", names)
    assert model.prompts == ("the a hiss", "the wind")


def test_other_models_have_no_nearest_names(micro):
    assert nearest_names(SemanticAC.from_preset(micro, ["a", "b"])) == {}


def test_the_background_is_every_sound_file_in_a_directory(tiny_tagger, names, tmp_path):
    rng = np.random.default_rng(0)
    room = tmp_path / "room"
    (room / "night").mkdir(parents=True)
    for file in ("notes.txt", "._a.wav"):
        (room / file).write_text("not a sound")
    for file in ("a.wav", "night/b.flac"):
        soundfile.write(room / file, 0.1 * rng.standard_normal(8000), 32_000)
    model = model_of_tagger(
        str(tiny_tagger),
        ["a hiss", "wind"],
        None,
        ClassNames(names.labels, names.rate_hz, names.text_weights, room),
    )
    expected = SemanticAC.from_tagger(
        Tagger(tiny_tagger, 32_000),
        model.text_encoder.class_names,
        model.labels,
        text_encoder=model.text_encoder.encoder,
        tokenizer=model.tokenizer,
        background=[room / "a.wav", room / "night" / "b.flac"],
    )
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(m.audio_tower.head.background) for m in (model, expected))
    )


def test_what_is_missing_is_named(tiny_tagger, names, tmp_path):
    def refuse(error, match, source=tiny_tagger, **changes):
        with pytest.raises(error, match=match):
            model_of_tagger(str(source), ["a", "b"], None, ClassNames(**{**vars(names), **changes}))

    refuse(TaggerError, "--tagger-labels", labels=None)
    refuse(OSError, r"gone\.csv", labels=tmp_path / "gone.csv")
    refuse(CheckpointError, r"gone\.tflite", source=tmp_path / "gone.tflite")
    refuse(ValueError, "--background must have sound files in it", background=tmp_path)
    shutil.copy(names.labels, tmp_path / "broken.wav")
    refuse(SoundFileError, r"broken\.wav", background=tmp_path)
