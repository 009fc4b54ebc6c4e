"""Bundles of a trained model with other labels, without training."""

import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from edge import StreamingClassifier, read_contract
from semanticac_keras import ExportError, SemanticAC
from training import export

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def run(micro, tmp_path):
    """A run directory with an untrained model of the labels a and b."""
    keras.utils.set_random_seed(1)
    SemanticAC.from_preset(micro, ["a", "b"], prompt="this is {label}").save(
        tmp_path / "model.keras"
    )
    return tmp_path


@pytest.fixture
def exported(monkeypatch):
    """Arguments of `export_tflite`, which converts nothing."""

    def export_tflite(model, path, quantization, **options):
        calls.append((model.labels, model.prompts, path, quantization, options))
        parity = {"max_score_difference": 0.001}
        return SimpleNamespace(labels=model.labels, prompts=model.prompts, parity=parity)

    calls = []
    monkeypatch.setattr(export, "export_tflite", export_tflite)
    return calls


@pytest.mark.slow
def test_a_bundle_listens_for_the_new_labels_and_streams_as_it_reads_files(run, tmp_path, capsys):
    bundle = tmp_path / "home.tflite"
    bundle.write_bytes(b"an older bundle")
    options = ["--labels", "dog; smoke alarm; glass breaking", "--quantization", "dynamic_int8"]
    assert export.main(["--weights", str(run), *options, "--out", str(bundle)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "label: smoke alarm ('this is smoke alarm')"
    assert shown[-1] == f"device: semanticac-edge --model {bundle} --mic"

    contract = read_contract(bundle)
    assert contract.labels == ("dog", "smoke alarm", "glass breaking")
    assert contract.prompts[2] == "this is glass breaking"
    assert contract.quantization == "dynamic_int8"
    assert contract.training == {"weights": run.name, "labels": "set without training"}
    assert contract.licence == "unknown"

    sound = 0.1 * np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    whole, streamed = (StreamingClassifier(bundle, hop_seconds=0.3) for _ in range(2))
    results = []
    for start in range(0, sound.size, 777):
        results += streamed.push(sound[start : start + 777])
    results += streamed.flush()
    expected = whole.push(sound) + whole.flush()
    assert len(results) == len(expected) > 5
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)

    model = keras.saving.load_model(run / "model.keras", compile=False)
    model.set_labels(contract.labels)
    window = sound[: model.front_end.window_samples]
    (first, *_) = expected
    np.testing.assert_allclose(first.scores, model.predict(window[None], verbose=0)[0], atol=0.05)


def test_one_label_suffices_if_the_labels_are_independent(micro, tmp_path, exported):
    model = SemanticAC.from_preset(micro, ["a", "b"], targets="sigmoid")
    model.save(tmp_path / "model.keras")
    options = ["--labels", "smoke alarm", "--out", str(tmp_path / "m.tflite")]
    assert export.main(["--weights", str(tmp_path), *options]) == 0
    assert exported[0][0] == ("smoke alarm",)


def test_labels_from_a_file_and_a_prompt(run, tmp_path, exported):
    (tmp_path / "labels.txt").write_text("dog\n\n  smoke alarm \n", encoding="utf-8")
    (tmp_path / "texts.toml").write_text('dog = ["dog", "puppy"]', encoding="utf-8")
    line = ["--weights", str(run), "--labels-file", str(tmp_path / "labels.txt")]
    line += ["--label-texts", str(tmp_path / "texts.toml"), "--prompt", "a {label}"]
    assert export.main([*line, "--out", "home.tflite"]) == 0
    (call,) = exported
    labels, texts, path, quantization, _ = call
    assert (labels, texts) == (("dog", "smoke alarm"), ("a dog; a puppy", "a smoke alarm"))
    assert (str(path), quantization) == ("home.tflite", "float32")


def test_a_tagger_s_labels_are_shown_with_their_nearest_class_names(
    tiny_tagger, byte_encoder, exported, tmp_path, capsys
):
    (tmp_path / "names.txt").write_text("Low hum\nWhistle\nHiss\n")
    line = ["--weights", str(tiny_tagger), "--tagger-labels", str(tmp_path / "names.txt")]
    line += ["--tagger-rate", "32000", "--text-weights", byte_encoder]
    assert export.main([*line, "--labels", "whistling; rain", "--out", "home.tflite"]) == 0
    (call,) = exported
    assert call[:2] == (("whistling", "rain"), ("whistling", "rain"))
    shown = capsys.readouterr().out.splitlines()[0]
    names = re.fullmatch(r"label: whistling \('whistling'; nearest: (.+)\)", shown)[1]
    assert {re.sub(r" [01]\.\d\d$", "", name) for name in names.split(", ")} == {
        *("Low hum", "Whistle", "Hiss"),
    }


def test_the_licence_is_that_of_the_weights(run, micro, exported, monkeypatch):
    line = ["--labels", "dog;rain", "--out", "home.tflite", "--weights"]
    monkeypatch.setattr(
        SemanticAC,
        "from_pretrained",
        lambda source, labels, **_: SemanticAC.from_preset(micro, labels),
        raising=False,
    )
    contracts = {run / "model.tflite": SimpleNamespace(licence="CC0")}
    monkeypatch.setattr(export, "read_contract", contracts.get)
    for weights in ("clap-htsat-unfused", "elsewhere.safetensors", str(run / "model.keras")):
        assert export.main([*line, weights]) == 0
    licences = [options["licence"] for *_, options in exported]
    assert licences == ["Apache-2.0", "unknown", "CC0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "dog;"], "at least two labels, because it chooses between them. Rec"),
        (["--labels", " ; "], "Received: none"),
        (["--labels", "dog; dog"], "`labels` must be distinct. Repeated: ['dog']"),
        (["--labels", "Dog; dog"], "`labels` must differ after tokenization"),
        (["--labels-file", "nowhere.txt"], "nowhere.txt"),
        (["--labels", "dog; cat", "--prompt", "a"], "`prompt` must contain {label}"),
        (["--labels", "dog; cat", "--label-texts", "nowhere.toml"], "nowhere.toml"),
        (["--labels", "dog; cat", "--weights", "nowhere.keras"], "nowhere.keras does not exist"),
        (["--labels", "dog; cat", "--tagger-labels", "x"], "--tagger-labels can be given for a"),
    ],
)
def test_an_error_is_one_line(options, message, run, exported, capsys):
    assert export.main(["--weights", str(run), "--out", "home.tflite", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("training.export: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not exported


def test_a_failed_conversion_is_one_line(run, capsys, monkeypatch):
    def fail(*_, **__):
        raise ExportError("the bundle\ndisagrees")

    monkeypatch.setattr(export, "export_tflite", fail)
    line = ["--weights", str(run), "--labels", "dog; rain", "--out", "home.tflite"]
    assert export.main(line) == 1
    assert capsys.readouterr().err == "training.export: error: the bundle disagrees\n"


@pytest.mark.parametrize(
    "options", [[], ["--labels", "a;b", "--labels-file", "x"], ["--quantization", "int8"]]
)
def test_wrong_arguments(options, capsys):
    with pytest.raises(SystemExit) as caught:
        export.main(["--weights", "x", "--out", "y", *options])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("python -m training.export: error: ")
