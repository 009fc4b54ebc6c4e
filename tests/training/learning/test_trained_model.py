from pathlib import Path

import keras
import numpy as np
import pytest

from semanticac_keras import CheckpointError, SemanticAC
from tests.pretrained_files import replace_sentence_encoder, write_pretrained
from training.learning import trained_model
from training.learning.class_names import ClassNames
from training.learning.own_weights import own_path
from training.learning.trained_model import model_from, short_name


@pytest.fixture
def run(micro, tmp_path):
    """A run directory with a model of the labels a and b."""
    keras.utils.set_random_seed(1)
    SemanticAC.from_preset(micro, ["a", "b"], prompt="this is {label}").save(
        tmp_path / "model.keras"
    )
    return tmp_path


def test_new_labels_take_the_place_of_the_old_ones(run):
    before = keras.saving.load_model(run / "model.keras", compile=False)
    model = model_from(str(run), ["dog", "rain", "siren"])
    assert (model.labels, model.prompt) == (("dog", "rain", "siren"), "this is {label}")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model.label_embeddings),
        before.encode_text(["this is dog", "this is rain", "this is siren"]),
        atol=1e-6,
    )
    for mine, theirs in zip(
        model.audio_tower.get_weights(), before.audio_tower.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    texts = {"rain": ["rain", "drops"]}
    model = model_from(str(run / "model.keras"), ["dog", "rain"], "sound of {label}", texts)
    assert model.prompts == ("sound of dog", "sound of rain; sound of drops")


def test_anything_else_is_a_published_model(run, monkeypatch):
    calls = []
    monkeypatch.setattr(
        SemanticAC,
        "from_pretrained",
        lambda source, labels, **options: calls.append((source, labels, options)),
        raising=False,
    )
    model_from("clap-htsat-unfused", ["dog", "rain"])
    path, texts = str(run / "clap.safetensors"), {"dog": "a dog"}
    model_from(path, ["dog"], "sound of {label}", texts)
    assert calls == [
        ("clap-htsat-unfused", ["dog", "rain"], {"prompt": None, "label_texts": None}),
        (path, ["dog"], {"prompt": "sound of {label}", "label_texts": texts}),
    ]


def test_a_pretrained_tower_takes_any_labels(micro, tmp_path, monkeypatch):
    file = str(write_pretrained(tmp_path / "tower.npz"))
    _, loaded = replace_sentence_encoder(monkeypatch)
    model = model_from(file, ["dog", "rain"])
    assert (model.prompts, model.targets, loaded) == (("dog", "rain"), "prototype", [])
    names = ClassNames(text_weights="a/copy")
    model = model_from(file, ["dog", "my cat"], "a {label}", None, names, "sigmoid")
    assert (model.prompts, model.targets, loaded) == (("a dog", "a my cat"), "sigmoid", ["a/copy"])
    assert short_name(file) == "tower.npz"
    with pytest.raises(ValueError, match="--background can be given for a tagger only"):
        model_from(file, ["dog"], class_names=ClassNames(background=tmp_path))


@pytest.mark.parametrize("texts", ["none", "random"])
def test_a_model_that_reads_no_labels_is_refused_in_one_line(texts, micro, tmp_path):
    SemanticAC.from_preset(micro, ["a", "b"], texts=texts).save(tmp_path / "m.keras")
    with pytest.raises(CheckpointError, match=f'm.keras was trained with texts="{texts}"') as error:
        model_from(str(tmp_path / "m.keras"), ["dog", "rain"])
    assert len(str(error.value).splitlines()) == 1


def test_wrong_labels_and_prompts_are_refused_before_anything_is_loaded():
    with pytest.raises(ValueError, match=r"`prompt` must contain {label}"):
        model_from("nowhere.keras", ["dog"], "a dog")
    with pytest.raises(ValueError, match="`labels` must be distinct"):
        model_from("nowhere.keras", ["dog", "dog"])
    with pytest.raises(CheckpointError, match=r"nowhere\.keras does not exist"):
        model_from("nowhere.keras", ["dog"])


def test_labels_that_the_tokenizer_refuses(run):
    with pytest.raises(ValueError, match="`labels` must differ after tokenization"):
        model_from(str(run), ["Dog", "dog"])
    with pytest.raises(ValueError, match=r"a text must fit 64 tokens\."):
        model_from(str(run), ["dog", 100 * "bark "])


def test_a_tagger_is_known_by_its_name_or_suffix(monkeypatch):
    calls = []
    monkeypatch.setattr(trained_model, "model_of_tagger", lambda *values: calls.append(values))
    names = ClassNames(text_weights="encoder")
    model_from("yamnet", ["dog", "rain"])
    model_from("birds.tflite", ["dog"], "sound of {label}", class_names=names)
    assert calls == [
        ("yamnet", ["dog", "rain"], None, ClassNames(), None),
        ("birds.tflite", ["dog"], "sound of {label}", names, None),
    ]


def test_a_tagger_s_options_are_refused_for_other_models(run):
    names = ClassNames(labels=Path("names.csv"), background=Path("room"))
    with pytest.raises(ValueError, match="--tagger-labels and --background can be given for a tag"):
        model_from(str(run), ["dog", "rain"], class_names=names)


def test_what_counts_as_ones_own(run, tmp_path):
    assert own_path(str(run)) == run
    assert own_path("gone.keras").name == "gone.keras"
    (tmp_path / "interrupted").mkdir()
    assert own_path(str(tmp_path / "interrupted")) is None
    for file in ("history.csv", "clips.json"):
        (tmp_path / "interrupted" / file).touch()
        assert own_path(str(tmp_path / "interrupted")) == tmp_path / "interrupted"
        (tmp_path / "interrupted" / file).unlink()


def test_names_for_results():
    assert [short_name(source) for source in ("clap", "runs/a.1/", "b/m.keras")] == [
        *("clap", "a.1", "m"),
    ]
