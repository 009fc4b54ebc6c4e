"""The whole path on a tiny model: files in, run directory out, stream through the bundle."""

import json
import signal
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import soundfile

from edge import StreamingClassifier, read_contract
from edge.sources import file_source
from semanticac_keras import ExportError, SemanticAC
from training import fit as command
from training.learning.batches import TrainingBatches
from training.learning.callbacks import Recorder
from training.runs import outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def arguments(micro_arguments, tmp_path):
    """Command line of a run in `run`."""
    return [
        *(*micro_arguments, "--targets", "prototype", "--ema-momentum", "0.5", "--mixup", "0.1"),
        *("--out", str(tmp_path / "run")),
    ]


def weights(path):
    return [keras.ops.convert_to_numpy(w) for w in keras.saving.load_model(path).weights]


def test_from_files_to_a_stream(arguments, folder, tmp_path, capsys):
    assert command.main(arguments) == 0
    run = tmp_path / "run"
    written = {path.name for path in run.iterdir()}
    assert written == {
        *("config.json", "history.csv", "checkpoint.weights.h5", "metrics.json", "report.md"),
        *("model.keras", "model.tflite", "predictions.npz", "curves.png"),
        *("confusion_matrix.png", "per_class_accuracy.png", "reliability.png"),
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy"] == metrics["accuracy_last_epoch"] == 1.0
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["augmentation"]["mixup"] == 0.1
    assert config["versions"]["keras"] == keras.__version__
    assert len((run / "history.csv").read_text().splitlines()) == 7
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "100.0%" in (run / "report.md").read_text()
    assert "accuracy 100.0% on 2 clips" in capsys.readouterr().out

    contract = read_contract(run / "model.tflite")
    assert contract.labels == ("hiss", "low hum")
    assert contract.training["accuracy"] == 1.0
    classifier = StreamingClassifier(run / "model.tflite", hop_seconds=0.1)
    results = []
    for chunk in file_source(folder / "low_hum" / "0.wav", 8000):
        results += classifier.push(chunk)
    results += classifier.flush()
    assert {result.top(1)[0][0] for result in results} == {"low hum"}

    assert command.main(arguments) == 1
    assert "already holds a run" in capsys.readouterr().err
    assert command.main([*arguments, "--resume", str(run)]) == 1
    assert "nothing to resume" in capsys.readouterr().err


def test_an_interrupted_run_is_kept_and_resumes_to_the_same_weights(
    arguments, tmp_path, monkeypatch, capsys
):
    assert command.main(arguments) == 0
    straight = weights(tmp_path / "run" / "model.keras")

    def interrupt(self, epoch, logs=None):
        write(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    write = Recorder.on_epoch_end
    monkeypatch.setattr(Recorder, "on_epoch_end", interrupt)
    other = tmp_path / "other"
    changed = [*arguments[:-1], str(other)]
    assert command.main(changed) == 130
    assert "interrupted" in capsys.readouterr().err
    assert "Interrupted before the last epoch" in (other / "report.md").read_text()
    assert zipfile.is_zipfile(other / "model.tflite")

    monkeypatch.setattr(Recorder, "on_epoch_end", write)
    assert command.main([*changed, "--resume", str(other), "--mixup", "0.2"]) == 1
    assert "mixup was 0.1, is 0.2" in capsys.readouterr().err
    assert command.main([*changed, "--resume", str(other)]) == 0
    for resumed, expected in zip(weights(other / "model.keras"), straight, strict=True):
        np.testing.assert_allclose(resumed, expected, atol=1e-4)
    assert len((other / "history.csv").read_text().splitlines()) == 7


def test_a_baseline_without_text_or_similarity_module(arguments, tmp_path):
    assert command.main([*arguments, "--epochs", "1", "--head", "pooled", "--texts", "none"]) == 0
    contract = read_contract(tmp_path / "run" / "model.tflite")
    assert contract.prompts == contract.labels
    parameters = json.loads((tmp_path / "run" / "metrics.json").read_text())["parameters"]
    # Two classes of C = 12 from maps of 16 channels.
    assert (parameters["MeanPooling"], parameters["class vectors"]) == (16 * 12 + 12, 2 * 12)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow alone")
def test_the_step_is_traced_once(arguments, monkeypatch):
    def trace(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        traced.append(training)
        return compute_loss(self, x, y, y_pred, sample_weight, training)

    traced, compute_loss = [], SemanticAC.compute_loss
    monkeypatch.setattr(SemanticAC, "compute_loss", trace)
    assert command.main([*arguments, "--epochs", "2", "--no-export"]) == 0
    assert traced.count(True) == 1


def test_a_failed_export_loses_nothing_else(arguments, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise ExportError("no converter today")

    monkeypatch.setattr(outcome, "export_tflite", fail)
    assert command.main([*arguments, "--epochs", "1"]) == 1
    assert "trained, but not exported: no converter today" in capsys.readouterr().err
    assert "Not exported: no converter today." in (tmp_path / "run" / "report.md").read_text()
    assert (tmp_path / "run" / "model.keras").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--fold", "9"], "fold"),
        (["--validation-fold", "1"], "must be one of the folds that are not held out"),
        (["--prompt", "a clip"], "must contain {label}"),
        (["--epochs", "0"], "`epochs` must be at least 1"),
        (["--bpe-vocab", "x"], "takes no --bpe-vocab"),
        (["--texts", "none", "--text-weights", "x"], 'texts="none" reads no text'),
        (["--audio-weights", "nowhere.ckpt"], "nowhere.ckpt"),
        (["--label-smoothing", "0.1", "--targets", "diagonal"], "`label_smoothing` does nothing"),
    ],
)
def test_one_clear_line_for_a_wrong_argument(arguments, change, message, tmp_path, capsys):
    assert command.main([*arguments, *change]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("training.fit: error:")
    assert message in error
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_one_clear_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        TrainingBatches, "generate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert command.main(arguments) == 130
    (tmp_path / "run" / "checkpoint.weights.h5").write_bytes(b"not a checkpoint")
    assert command.main([*arguments, "--resume", str(tmp_path / "run")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_ctrl_c_in_a_terminal(tmp_path):
    """The real thing: a process of its own, SIGINT after the first epoch."""
    # A test run started in the background, as by nohup, hands its ignored SIGINT down.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from training.fit import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--dataset", "demo", "--out", str(tmp_path / "r")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "accuracy" in output
    assert "Traceback" not in errors
    assert read_contract(tmp_path / "r" / "model.tflite").training["dataset"] == "demo"
    assert soundfile.info(tmp_path / "r" / "example.wav").samplerate == 32_000
