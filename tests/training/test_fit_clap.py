"""Fine-tuning of a pretrained CLAP, here a small one with random weights."""

import json
from itertools import pairwise

import keras
import numpy as np
import pytest
import soundfile

from edge import StreamingClassifier, read_contract
from semanticac_keras import CSCM, ExportError, PooledMLP, SemanticAC
from tests.clap_files import FRONT_END, write_clap
from training import crossval
from training import fit as command
from training.learning.callbacks import Recorder
from training.learning.options import chosen_recipe
from training.learning.recipes import RECIPES
from training.runs import outcome
from training.runs.run import Run

pytest.importorskip("tokenizers")
pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.usefixtures("eager"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def source(tmp_path):
    """Directory of a pretrained CLAP."""
    (tmp_path / "clap").mkdir()
    write_clap(tmp_path / "clap")
    return tmp_path / "clap"


@pytest.fixture
def data(folder):
    return ["--dataset", "folder", "--data-dir", str(folder)]


@pytest.fixture
def line(data, source, tmp_path):
    """Command line of a training in `run`, from the CLAP."""
    return [*data, "--weights", str(source), "--batch-size", "8", "--out", str(tmp_path / "run")]


@pytest.fixture
def epochs(monkeypatch):
    """Weights of the encoders and the head after each epoch: three lists of arrays."""

    def record(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        tower = self.model.audio_tower
        parts = (tower.encoder, tower.head, self.model.text_encoder)
        epochs.append([weights_of(part) for part in parts])

    epochs, on_epoch_end = [], Recorder.on_epoch_end
    monkeypatch.setattr(Recorder, "on_epoch_end", record)
    return epochs


def weights_of(part):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in part.weights]


def equal(one, other):
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.slow
def test_a_clap_is_fine_tuned_and_exported(line, source, folder, tmp_path):
    run = tmp_path / "run"
    assert command.main([*line, "--epochs", "1"]) == 0
    before = SemanticAC.from_pretrained(source, ["hiss", "low hum"])
    model = keras.saving.load_model(run / "model.keras")
    assert isinstance(model.audio_tower.head, PooledMLP)
    for part, other in (
        (model.audio_tower.encoder, before.audio_tower.encoder),
        (model.audio_tower.head, before.audio_tower.head),
    ):
        assert not equal(weights_of(part), weights_of(other))
    assert equal(weights_of(model.text_encoder), weights_of(before.text_encoder))

    config = json.loads((run / "config.json").read_text())
    assert (config["weights"]["model"], config["recipe"]["preset"]) == (str(source), "clap")
    assert "preset `clap`" in (run / "report.md").read_text()

    contract = read_contract(run / "model.tflite")
    assert contract.front_end == FRONT_END
    assert contract.prompts == ("This is a sound of hiss.", "This is a sound of low hum.")
    assert contract.training["recipe"]["head"] == "clap"
    classifier = StreamingClassifier(run / "model.tflite")
    for file in sorted(folder.rglob("*.wav")):
        sound, _ = soundfile.read(file, frames=FRONT_END.window_samples, dtype="float32")
        classifier.reset()
        [result, *_] = [*classifier.push(sound), *classifier.flush()]
        [probabilities] = model.predict([sound], verbose=0)
        assert result.top(1)[0][0] == contract.labels[probabilities.argmax()]
        np.testing.assert_allclose(result.scores, probabilities, atol=1e-4)


@pytest.mark.slow
def test_a_new_head_is_trained_before_all_weights(line, source, epochs, tmp_path):
    heads_first = ["--head", "cscm", "--head-epochs", "2", "--epochs", "3", "--no-export"]
    assert command.main([*line, *heads_first]) == 0
    before = SemanticAC.from_pretrained(source, ["hiss", "low hum"])
    encoders, heads, text_encoders = zip(*epochs, strict=True)
    encoders = (weights_of(before.audio_tower.encoder), *encoders)
    assert [equal(*pair) for pair in pairwise(encoders)] == [True, True, False]
    assert not any(equal(*pair) for pair in pairwise(heads))
    assert all(equal(each, weights_of(before.text_encoder)) for each in text_encoders)
    parameters = json.loads((tmp_path / "run" / "metrics.json").read_text())["parameters"]
    head = CSCM(6)
    head.build((None, *before.audio_tower.encoder.output_grid, 8))
    assert parameters["CSCM"] == head.count_params()


@pytest.mark.slow
def test_a_run_resumes_in_either_phase(line, epochs, tmp_path, monkeypatch):
    def interrupt(self, rows):
        write_history(self, rows)
        if len(rows) == last + 1:  # before the checkpoint is written
            raise KeyboardInterrupt

    write_history = Run.write_history
    line = [*line, "--head-epochs", "1", "--epochs", "3", "--ema-momentum", "0.5"]
    line += ["--fold", "none", "--no-export"]
    assert command.main(line) == 0
    *_, straight = epochs
    for last in (1, 2):
        resumed = tmp_path / f"resumed{last}"
        with monkeypatch.context() as patch:
            patch.setattr(Run, "write_history", interrupt)
            assert command.main([*line, "--out", str(resumed)]) == 130
        epochs.clear()
        assert command.main([*line, "--resume", str(resumed)]) == 0
        assert len(epochs) == 3 - last
        for part, expected in zip(epochs[-1], straight, strict=True):
            for values, others in zip(part, expected, strict=True):
                np.testing.assert_allclose(values, others, atol=1e-5)


@pytest.mark.slow
def test_the_head_alone_can_be_trained_and_the_run_extended(
    line, source, epochs, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise ExportError("not in this test")

    monkeypatch.setattr(outcome, "export_tflite", refuse)
    run = tmp_path / "run"
    assert command.main([*line, "--head-epochs", "1", "--epochs", "1"]) == 1
    before = SemanticAC.from_pretrained(source, ["hiss", "low hum"])
    assert equal(epochs[0][0], weights_of(before.audio_tower.encoder))
    model = keras.saving.load_model(run / "model.keras")
    assert len(model.optimizer.variables) > 2 * len(model.audio_tower.trainable_variables)

    # One's own model needs no other options than a published one.
    again = ["--weights", str(run), "--fold", "1", "--epochs", "1", "--no-export"]
    assert chosen_recipe(command.parse([*line, *again])) == RECIPES["finetune"].override(
        {"batch_size": 8, "epochs": 1}
    )
    assert command.main([*line, *again, "--out", str(tmp_path / "again")]) == 0
    assert not equal(epochs[1][0], epochs[0][0])

    extend = ["--resume", str(run), "--head-epochs", "1", "--epochs", "2", "--no-export"]
    assert command.main([*line, *extend]) == 0
    assert len(Run(run).read_history()) == 2


@pytest.mark.slow
def test_a_cross_validation_passes_the_weights_on(line, source, tmp_path, monkeypatch):
    def train(jobs, at_once):
        for job in jobs:
            assert command.main([*job.arguments, "--out", str(job.run.directory)]) == 0

    monkeypatch.setattr(crossval, "run_jobs", train)
    assert crossval.main([*line, "--folds", "1", "--epochs", "1"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["weights"]["model"] == str(source)
    assert summary["recipe"]["targets"] == "prototype"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--preset", "tiny"], "leave out --preset"),
        (["--audio-weights", "a.ckpt"], "leave out --audio-weights, --text-weights"),
        (["--text-weights", "minilm"], "leave out --audio-weights, --text-weights"),
        (["--bpe-vocab", "bpe.txt"], "has its own vocabulary; leave out --bpe-vocab"),
        (["--weights", "runs/typo"], "source must be a file or one of"),
        (["--prompt", "a sound"], "`prompt` must contain {label}"),
        (["--epochs", "3", "--head-epochs", "4"], "`head_epochs` must be from 0 to 3"),
        (["--head-learning-rate", "0"], "`head_learning_rate` must be positive"),
    ],
)
def test_a_wrong_combination_is_one_line(line, change, message, tmp_path, capsys):
    assert command.main([*line, *change]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("training.fit: error:")
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "finetune"], "add --weights"),
        (["--train-text"], "--train-text is for a pretrained CLAP"),
    ],
)
def test_options_of_a_clap_need_one(data, options, message, tmp_path, capsys):
    assert command.main([*data, *options, "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()
