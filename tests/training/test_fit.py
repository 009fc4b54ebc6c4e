"""Training from sound files to a run directory and an exported bundle, with the micro preset."""

import json
import os
import shutil
import signal
import subprocess

import keras
import numpy as np
import pytest
import soundfile

from edge import StreamingClassifier, read_contract
from edge.sources import file_source
from semanticac_keras import ExportError
from tests.training.mixed_files import write_tones
from training import fit as command
from training import inspect
from training.datasets import load_dataset
from training.learning.batches import TrainingBatches
from training.learning.callbacks import Recorder
from training.runs import outcome
from training.runs.evaluation import Evaluation
from training.runs.files import writing
from training.runs.lock import locked
from training.runs.run import Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def arguments(micro_arguments, micro_options, tmp_path):
    """Command line of the `trained` run, but in `run` of the test's directory."""
    return [*micro_arguments, *micro_options, "--out", str(tmp_path / "run")]


def weights(path):
    return [keras.ops.convert_to_numpy(w) for w in keras.saving.load_model(path).weights]


@pytest.mark.slow
def test_a_run_writes_its_metrics_report_and_bundle(trained, folder):
    run = trained.directory
    assert trained.status == 0
    written = {path.name for path in run.iterdir()}
    assert written == {
        *(
            ".lock",
            "clips.json",
            "config.json",
            "history.csv",
            "checkpoint.weights.h5",
            "metrics.json",
            "report.md",
        ),
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
    assert "accuracy 100.0% on 2 clips" in trained.output

    contract = read_contract(run / "model.tflite")
    assert contract.labels == ("hiss", "low hum")
    assert contract.training["accuracy"] == 1.0
    classifier = StreamingClassifier(run / "model.tflite", hop_seconds=0.1)
    results = []
    for chunk in file_source(folder / "low_hum" / "0.wav", 8000):
        results += classifier.push(chunk)
    results += classifier.flush()
    assert {result.top(1)[0][0] for result in results} == {"low hum"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [("--out", "already holds a run"), ("--resume", "nothing to resume")],
)
def test_a_finished_run_is_neither_overwritten_nor_resumed(
    trained, arguments, option, message, capsys, monkeypatch
):
    monkeypatch.delattr(command, "build_model")  # refused before a model is built
    assert command.main([*arguments, option, str(trained.directory)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_an_interrupted_run_is_exported_and_resumes_to_the_same_weights(
    trained, arguments, tmp_path, monkeypatch, capsys
):
    def interrupt(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    def export(model, path, *_, **__):
        exported.append(path)
        return contract

    contract, exported = read_contract(trained.directory / "model.tflite"), []
    monkeypatch.setattr(outcome, "export_tflite", export)
    on_epoch_end, run = Recorder.on_epoch_end, tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_epoch_end", interrupt)
        assert command.main(arguments) == 130
    assert "interrupted" in capsys.readouterr().err
    assert "Interrupted before the last epoch" in (run / "report.md").read_text()
    assert exported == [run / "model.tflite"]

    assert command.main([*arguments, "--resume", str(run), "--mixup", "0.2"]) == 1
    assert "mixup was 0.1, is 0.2" in capsys.readouterr().err
    assert command.main([*arguments, "--resume", str(run)]) == 0
    straight = weights(trained.directory / "model.keras")
    for resumed, expected in zip(weights(run / "model.keras"), straight, strict=True):
        np.testing.assert_allclose(resumed, expected, atol=1e-4)
    assert len((run / "history.csv").read_text().splitlines()) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_recordings_of_any_kind_become_a_model(micro, micro_arguments, tmp_path, capsys):
    """From a directory of mixed files to predictions, as for a first own model."""
    recordings, run = tmp_path / "recordings", tmp_path / "run"
    write_tones(recordings)
    assert inspect.main([str(recordings)]) == 0
    assert "18 clips of 2 classes" in capsys.readouterr().out
    source = ["--dataset", "folder", "--data-dir", str(recordings), "--preset", micro]
    assert command.main([*source, "--fold", "none", "--epochs", "1", "--out", str(run)]) == 0
    assert "trained on all 18 clips" in capsys.readouterr().out
    files = sorted(recordings.rglob("*.*"))
    model = keras.saving.load_model(run / "model.keras")
    assert model.predict(files, verbose=0).shape == (18, 2)
    assert read_contract(run / "model.tflite").labels == ("high", "low")


@pytest.fixture
def several(micro, tmp_path):
    """Options that train on hums and hisses, both at once, or neither, in four folds."""
    rng, seconds = np.random.default_rng(0), np.arange(6000) / 8000
    rows = ["filename,label,fold"]
    for number in range(48):
        hums, hisses = number % 2, number // 2 % 2
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(150, 250) * seconds)
        sound = hums * tone + (0.1 * hisses + 0.001) * rng.standard_normal(seconds.size)
        soundfile.write(tmp_path / f"{number}.wav", sound, 8000)
        label = ";".join(hums * ["low_hum"] + hisses * ["hiss"])
        rows.append(f"{number}.wav,{label},{1 + number // 12}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    data = ["--dataset", "folder", "--data-dir", str(tmp_path / "clips.csv"), "--preset", micro]
    return [*data, "--out", str(tmp_path / "run")]


@pytest.mark.slow
@pytest.mark.usefixtures("micro_arguments", "eager")
def test_several_labels_a_clip_become_independent_scores(several, tmp_path, capsys):
    options = ["--epochs", "8", "--optimizer", "adamw", "--learning-rate", "0.01", "--mixup", "0.1"]
    assert command.main([*several, *options, "--validation-fold", "2"]) == 0
    shown = capsys.readouterr()
    assert "fold 1 of clips: mean average precision" in shown.out
    assert "24 of 48 clips have several labels or none: --targets sigmoid" in shown.err
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["mean_average_precision"] > 0.9
    assert metrics["per_class_f1"].keys() == {"hiss", "low hum"}
    rows = Run(run).read_history()
    best = max(row["val_mean_average_precision"] for row in rows)
    assert metrics["validation"]["mean_average_precision"] == best
    report = (run / "report.md").read_text()
    assert "| label | clips | average precision | F1 | precision | recall |" in report
    assert "selected epoch" in report
    assert (run / "per_class_f1.png").exists()

    contract = read_contract(run / "model.tflite")
    assert not contract.exclusive
    assert contract.training["recipe"]["targets"] == "sigmoid"
    model = keras.saving.load_model(run / "model.keras")
    neither, both = (tmp_path / f"{number}.wav" for number in (0, 3))
    scores = model.predict([neither, both], verbose=0)
    assert (scores[0] < scores[1]).all()


def test_several_labels_a_clip_refuse_targets_of_one(several, micro_arguments, tmp_path, capsys):
    assert command.main([*several, "--targets", "prototype"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "training.fit: error: 24 of 48 clips of clips have several labels or none, and "
        'targets="prototype" gives each clip one. Leave out --targets, or use sigmoid.'
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_baseline_without_text_or_similarity_module(arguments, tmp_path):
    assert command.main([*arguments, "--epochs", "1", "--head", "pooled", "--texts", "none"]) == 0
    contract = read_contract(tmp_path / "run" / "model.tflite")
    assert contract.prompts == contract.labels
    parameters = json.loads((tmp_path / "run" / "metrics.json").read_text())["parameters"]
    # Two classes of C = 12 from maps of 16 channels.
    assert (parameters["MeanPooling"], parameters["class vectors"]) == (16 * 12 + 12, 2 * 12)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow traces")
def test_the_training_step_is_traced_once(trained):
    assert trained.losses.count(True) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_failed_export_keeps_the_other_results(arguments, tmp_path, monkeypatch, capsys):
    def refuse_export(*_, **__):
        raise ExportError("no converter today")

    monkeypatch.setattr(outcome, "export_tflite", refuse_export)
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
        (["--bpe-vocab", "x"], "leave out --bpe-vocab"),
        (["--texts", "none", "--text-weights", "x"], 'texts="none" has no text encoder'),
        (["--label-texts", "nowhere.toml"], "nowhere.toml"),
        (["--audio-weights", "nowhere.ckpt"], "nowhere.ckpt"),
        (["--fold", "none", "--validation-fold", "1"], "leave out --validation-fold"),
        (["--weights", "nowhere.keras"], "nowhere.keras does not exist"),
        (["--batch-size", "1", "--targets", "diagonal"], "learns nothing from batches of one clip"),
        (["--label-smoothing", "0.1", "--targets", "diagonal"], "`label_smoothing` does nothing"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, change, message, tmp_path, capsys):
    assert command.main([*arguments, *change]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("training.fit: error:")
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_damaged_checkpoint_is_one_line(arguments, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingBatches, "generate", interrupt)
    assert command.main([*arguments, "--no-export"]) == 130
    (tmp_path / "run" / "checkpoint.weights.h5").write_bytes(b"not a checkpoint")
    assert command.main([*arguments, "--resume", str(tmp_path / "run")]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_loss_of_nan_is_one_line_and_the_run_resumes_before_it(
    arguments, tmp_path, monkeypatch, capsys
):
    def spoil(self, number):
        inputs, shares = batch(self, number)
        return (inputs * np.nan if number == 1 else inputs), shares

    batch, run = TrainingBatches.batch, Run(tmp_path / "run")
    short = [*arguments, "--epochs", "2"]  # of one batch each
    with monkeypatch.context() as patch:
        patch.setattr(TrainingBatches, "batch", spoil)
        assert command.main(short) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training.fit: error: epoch 2: the loss became nan in batch 1 (")
    assert f"--resume {run.directory}" in error
    assert [row["epoch"] for row in run.read_history()] == [1]
    assert not run.predictions.exists()
    assert command.main([*short, "--no-export", "--resume", str(run.directory)]) == 0
    assert all(np.isfinite(row["loss"]) for row in run.read_history())


@pytest.fixture
def no_conversion(monkeypatch, trained):
    """Keyword arguments of each export, which writes nothing."""

    def export(model, path, *_, **options):
        exports.append(options)
        return contract

    contract, exports = read_contract(trained.directory / "model.tflite"), []
    monkeypatch.setattr(outcome, "export_tflite", export)
    return exports


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_without_a_held_out_fold_nothing_claims_an_accuracy(
    arguments, no_conversion, tmp_path, capsys
):
    run = tmp_path / "run"
    assert command.main([*arguments, "--fold", "none", "--epochs", "1"]) == 0
    assert "trained on all 10 clips of sounds; none was held out" in capsys.readouterr().out
    [export] = no_conversion
    assert len(export["clips"]) == 10
    assert export["training"]["held_out_fold"] is None
    figures = json.loads((run / "metrics.json").read_text())
    for values in (figures, export["training"]):
        assert not [name for name in values if "accuracy" in name]
    assert (figures["training_clips"], figures["held_out_clips"]) == (10, 0)
    assert not (run / "predictions.npz").exists()
    assert json.loads((run / "config.json").read_text())["fold"] is None
    report = (run / "report.md").read_text()
    for text in ("No clip was held out", "training.crossval", "training windows"):
        assert text in report
    assert (run / "history.csv").read_text().startswith("epoch,accuracy,loss,seconds\n")


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_several_texts_of_a_label(arguments, no_conversion, tmp_path, capsys):
    texts, run = tmp_path / "texts.toml", tmp_path / "run"
    texts.write_text('hiss = ["steam", "a tyre"]')
    line = [*arguments, "--epochs", "1", "--prompt", "{label}"]
    assert command.main([*line, "--label-texts", str(texts)]) == 0
    assert keras.saving.load_model(run / "model.keras").prompts == ("steam; a tyre", "low hum")
    assert "| hiss | steam; a tyre |" in (run / "report.md").read_text()
    config = json.loads((run / "config.json").read_text())
    assert config["label_texts"] == {"hiss": ["steam", "a tyre"], "low hum": ["low hum"]}
    (run / "metrics.json").unlink()
    capsys.readouterr()
    assert command.main([*line, "--resume", str(run)]) == 1
    assert "label_texts was {'hiss'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_finished_run_is_extended(arguments, no_conversion, tmp_path):
    run = tmp_path / "run"
    folds = ["--fold", "1", "--validation-fold", "2"]
    assert command.main([*arguments, *folds, "--epochs", "1"]) == 0
    first = (run / "history.csv").read_text().splitlines()
    resume = [*arguments, *folds, "--resume", str(run)]
    assert command.main([*resume, "--epochs", "2"]) == 0
    rows = (run / "history.csv").read_text().splitlines()
    assert (rows[:2], len(rows)) == (first, 3)
    assert json.loads((run / "config.json").read_text())["recipe"]["epochs"] == 2
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 2
    assert command.main([*resume, "--epochs", "2"]) == 1  # finished


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_resume_after_a_change_of_the_data_is_one_line(
    arguments, folder, tmp_path, monkeypatch, capsys
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingBatches, "generate", interrupt)
    assert command.main([*arguments, "--no-export"]) == 130
    shutil.rmtree(folder / "hiss")
    shutil.copytree(folder / "low_hum", folder / "rain")
    capsys.readouterr()
    monkeypatch.delattr(command, "build_model")
    assert command.main([*arguments, "--resume", str(tmp_path / "run")]) == 1
    [error] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "was started with other clips" in error
    assert "rain/0.wav" in error
    assert "hiss/0.wav" in error
    assert len(error) < 600


@pytest.mark.parametrize("option", ["--resume", "--out"])
def test_a_run_in_use_is_one_line(option, arguments, tmp_path, monkeypatch, capsys):
    run = Run(tmp_path / "run")
    monkeypatch.setattr(command, "build_model", lambda *_: None)
    with locked(run.directory):
        if option == "--resume":
            run.start({})
        assert command.main([*arguments, option, str(run.directory)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training.fit: error: ")
    assert "is in use by another process" in error


@pytest.mark.slow
def test_weights_that_know_the_held_out_clips_are_refused(trained):
    """The run held out fold 1."""
    sounds = trained.directory.parent / "sounds"
    line = ["--dataset", "folder", "--data-dir", str(sounds), "--weights"]
    dataset = load_dataset("folder", sounds, progress=False)
    arguments = command.parse([*line, str(trained.directory)])
    with pytest.raises(ValueError, match=r"trained on 2 of the 2 clips to test on \(.*none"):
        command.checked_split(arguments, dataset, 2)
    assert command.checked_split(arguments, dataset, 1).fold == 1
    assert command.checked_split(arguments, dataset, command.NO_FOLD).test.size == 0
    arguments = command.parse([*line, str(trained.directory / "model.keras")])
    with pytest.raises(ValueError, match="the accuracy would be no test"):
        command.checked_split(arguments, dataset, 3)


def test_sigterm_removes_what_is_half_written(arguments, tmp_path, monkeypatch):
    def save(*_):
        with writing(tmp_path / "half"):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait((), 0)

    monkeypatch.setattr(command, "build_model", save)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        command.main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["sounds"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_exports_the_model(sigint, micro_arguments, micro_program, tmp_path):
    options = ["--epochs", "10000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*micro_program, *micro_arguments, *options],
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
    assert read_contract(tmp_path / "run" / "model.tflite").training["dataset"] == "sounds"


@pytest.fixture
def tagger_arguments(micro_arguments, tiny_tagger, tmp_path, monkeypatch):
    """Command line of a training on a tagger's embeddings."""
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    tagger = ["--audio-weights", str(tiny_tagger), "--tagger-rate", "32000"]
    return [*micro_arguments, *tagger, "--out", str(tmp_path / "run")]


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_tagger_becomes_the_audio_tower(tagger_arguments, folder, tmp_path):
    assert command.main([*tagger_arguments, "--epochs", "2", "--mixup", "0.1"]) == 0
    contract = read_contract(tmp_path / "run" / "model.tflite")
    assert (contract.inputs, contract.tagger.name) == ("embeddings", "tiny_tagger.tflite")
    assert contract.parity["max_score_difference"] <= 1e-4
    assert contract.front_end.window_seconds == 5.0
    evaluation = Evaluation.load(tmp_path / "run" / "predictions.npz")
    dataset = load_dataset("folder", folder, progress=False)
    held_out = [i for i, clip in enumerate(dataset.clips) if clip.name in evaluation.names]
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    heard = model.predict(dataset.load(held_out, 32_000), verbose=0)
    np.testing.assert_allclose(evaluation.probabilities, heard, atol=1e-5)
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert "val_accuracy" in rows[0]
    assert len(rows) == 3


@pytest.mark.parametrize(
    "options", [["--noise", "0.5"], ["--spec-augment"], ["--training-rate-hz", "44100"]]
)
def test_sounds_heard_by_a_tagger_cannot_be_augmented(tagger_arguments, options, capsys):
    assert command.main([*tagger_arguments, *options]) == 1
    assert "a tagger's embeddings are computed once" in capsys.readouterr().err


def test_a_tagger_has_no_epochs_of_the_head_alone(tagger_arguments, capsys):
    assert command.main([*tagger_arguments, "--head-epochs", "1"]) == 1
    assert "a tagger stays as it is in all epochs; leave out" in capsys.readouterr().err


def test_a_wrong_tagger_is_one_line(tagger_arguments, tmp_path, capsys):
    (tmp_path / "page.tflite").write_text("<html>")
    assert command.main([*tagger_arguments, "--audio-weights", str(tmp_path / "page.tflite")]) == 1
    message = capsys.readouterr().err
    [line] = [line for line in message.splitlines() if "error" in line]
    assert "page.tflite cannot be used as a tagger" in line
    assert not (tmp_path / "run").exists()
