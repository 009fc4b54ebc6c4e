import json

import keras
import numpy as np
import pytest
import soundfile

from edge import read_contract
from semanticac_keras import ExportError, SemanticAC
from training import fit as command
from training.datasets import load_dataset
from training.datasets.split import Split
from training.distillation import Student, score_divergence
from training.learning.callbacks import Recorder
from training.learning.tagger import Teacher
from training.lessons import TaughtBatches
from training.runs import outcome

D, K = 6, 5


@pytest.fixture
def make_student(micro):
    """`make_student(**options)`: of a tiny classifier of three labels."""

    def make(**options):
        keras.utils.set_random_seed(0)
        classifier = SemanticAC.from_preset(micro, ["rain", "sea", "wind"], targets="prototype")
        arguments = {
            "embedding_dim": D,
            "mean_scores": np.full(K, 0.2, np.float32),
            "exclusive": False,
            "embedding_weight": 2.0,
            "score_weight": 0.5,
            **options,
        }
        return Student(classifier, **arguments)

    return make


@pytest.fixture
def taught_batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 5120)).astype(np.float32), {
        "shares": np.eye(3, dtype=np.float32)[np.arange(8) % 3],
        "embedding": rng.standard_normal((8, D)).astype(np.float32),
        "scores": rng.uniform(0, 1, (8, K)).astype(np.float32),
    }


def forever(batch):
    while True:
        yield batch


def as_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("exclusive", [True, False])
def test_divergence_is_the_relative_entropy(exclusive):
    rng = np.random.default_rng(0)
    logits, other = rng.normal(size=(2, 7, K)).astype(np.float32)
    if exclusive:
        teacher, told = softmax(logits), softmax(other)
    else:
        teacher, told = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-other))
    expected = teacher * np.log(teacher / told)
    if not exclusive:
        expected += (1 - teacher) * np.log((1 - teacher) / (1 - told))
    given = as_numpy(score_divergence(teacher, other, exclusive))
    np.testing.assert_allclose(given, expected.sum(axis=1), rtol=1e-4)
    same = as_numpy(score_divergence(teacher, logits, exclusive))
    np.testing.assert_allclose(same, 0.0, atol=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_divergence_is_finite_for_certain_scores(exclusive):
    scores = np.eye(K, dtype=np.float32)
    logits = np.full((K, K), -200.0, np.float32) + 400.0 * np.roll(scores, 1, axis=1)
    divergence = as_numpy(score_divergence(scores, logits, exclusive))
    np.testing.assert_allclose(divergence, 400.0, rtol=1e-4)


def test_every_loss_falls_on_one_batch(make_student, taught_batch):
    student = make_student()
    student.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    waveforms, targets = taught_batch
    history = student.fit(
        forever(taught_batch),
        steps_per_epoch=10,
        epochs=4,
        validation_data=(waveforms, targets["shares"]),
        shuffle=False,
        verbose=0,
    ).history
    assert set(history) == {
        *("loss", "accuracy", "teacher_embedding_loss", "teacher_score_loss"),
        *("val_loss", "val_accuracy"),
    }
    for name, falls_to in (
        ("loss", 0.6),
        ("teacher_embedding_loss", 0.6),
        ("teacher_score_loss", 0.8),
    ):
        assert history[name][-1] < falls_to * history[name][0], name


def test_the_loss_is_the_classifiers_and_the_teachers(make_student, taught_batch):
    student = make_student()
    rng = np.random.default_rng(1)
    told = {
        "logits": rng.normal(size=(8, 3)).astype(np.float32),
        "embedding": rng.normal(size=(8, D)).astype(np.float32),
        "score_logits": rng.normal(size=(8, K)).astype(np.float32),
    }
    targets = taught_batch[1]
    cosine = (told["embedding"] * targets["embedding"]).sum(axis=1)
    for embedding in (told["embedding"], targets["embedding"]):
        cosine /= np.linalg.norm(embedding, axis=1)
    divergence = score_divergence(targets["scores"], told["score_logits"], False)
    expected = (
        as_numpy(student.classifier.compute_loss(None, targets["shares"], told["logits"]))
        + 2.0 * (1 - cosine.mean())
        + 0.5 * as_numpy(divergence).mean()
    )
    tensors = {name: keras.ops.convert_to_tensor(values) for name, values in told.items()}
    taught = {name: keras.ops.convert_to_tensor(values) for name, values in targets.items()}
    given = as_numpy(student.compute_loss(None, taught, tensors))
    np.testing.assert_allclose(given, expected, rtol=1e-5)


def test_scores_start_at_the_teachers_mean(make_student, taught_batch):
    """Silence in, where the token map says little: the mean out."""
    for exclusive, mean in ((False, [0.9, 0.01, 0.5, 0.2, 0.1]), (True, [0.5, 0.2, 0.1, 0.1, 0.1])):
        student = make_student(mean_scores=np.array(mean, np.float32), exclusive=exclusive)
        student.score_head.kernel.assign(0.0 * student.score_head.kernel)
        logits = student(taught_batch[0], training=True)["score_logits"]
        logits = as_numpy(logits)
        told = softmax(logits) if exclusive else 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(told, np.tile(mean, (8, 1)), atol=1e-5)


def test_outside_training_it_is_the_classifier(make_student, taught_batch):
    student = make_student()
    given = as_numpy(student(taught_batch[0]))
    expected = as_numpy(student.classifier(taught_batch[0]))
    np.testing.assert_array_equal(given, expected)


def test_a_weight_of_zero_leaves_a_head_out(make_student, taught_batch):
    student = make_student(embedding_dim=0, embedding_weight=0.0)
    assert set(student(taught_batch[0], training=True)) == {"logits", "score_logits"}


@pytest.fixture
def arguments(micro_arguments, tagger, tmp_path, monkeypatch):
    """Command line of a run in `run` with a teacher."""
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    return [
        *(*micro_arguments, "--targets", "prototype", "--ema-momentum", "0.5", "--mixup", "0.3"),
        *("--teacher", str(tagger), "--teacher-rate", "4000", "--teacher-views", "2"),
        *("--epochs", "4", "--out", str(tmp_path / "run")),
    ]


def fail_to_export(*_, **__):
    raise ExportError("not in this test")


def weights(path):
    return [as_numpy(weight) for weight in keras.saving.load_model(path).weights]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning", "ignore::DeprecationWarning")
def test_a_run_says_who_taught_and_leaves_the_teacher_behind(
    arguments, make_student, tagger, tmp_path
):
    assert command.main(arguments) == 0
    run = tmp_path / "run"
    digest = Teacher(tagger).sha256
    config = json.loads((run / "config.json").read_text())
    assert config["teacher"] == {"path": str(tagger), "sha256": digest, "sample_rate_hz": 4000}
    assert f"Taught by `{tagger}` (SHA-256 {digest})" in (run / "report.md").read_text()
    contract = read_contract(run / "model.tflite")
    assert contract.training["teacher"] == {"name": "tagger.tflite", "sha256": digest}
    assert "teacher_embedding_loss" in (run / "history.csv").read_text()
    loaded = keras.saving.load_model(run / "model.keras")
    assert type(loaded) is SemanticAC
    assert len(loaded.weights) == len(make_student().classifier.weights)


@pytest.mark.slow
def test_a_taught_run_resumes_to_the_same_weights(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outcome, "export_tflite", fail_to_export)
    assert command.main(arguments) == 1
    straight = weights(tmp_path / "run" / "model.keras")

    def interrupt(self, epoch, logs=None):
        write(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    write = Recorder.on_epoch_end
    monkeypatch.setattr(Recorder, "on_epoch_end", interrupt)
    other = str(tmp_path / "other")
    changed = [*arguments[:-1], other]
    assert command.main(changed) == 1
    monkeypatch.setattr(Recorder, "on_epoch_end", write)
    resumed = [*arguments[:-2], "--resume", other]
    assert command.main([*resumed, "--teacher-rate", "8000"]) == 1
    assert "sample_rate_hz was 4000, is 8000" in capsys.readouterr().err
    assert command.main(resumed) == 1
    for given, expected in zip(weights(tmp_path / "other" / "model.keras"), straight, strict=True):
        np.testing.assert_allclose(given, expected, atol=1e-4)


def interrupt_here(*_):
    raise KeyboardInterrupt


def test_an_interrupted_lesson_is_one_line_and_the_run_goes_on(
    arguments, tmp_path, monkeypatch, capsys
):
    hear = Teacher.hear
    monkeypatch.setattr(Teacher, "hear", interrupt_here)
    monkeypatch.setattr(TaughtBatches, "generate", interrupt_here)
    assert command.main([*arguments, "--no-export"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "training.fit: interrupted"
    monkeypatch.setattr(Teacher, "hear", hear)
    resumed = [*arguments[:-2], "--resume", str(tmp_path / "run"), "--no-export"]
    assert command.main(resumed) == 130
    assert "keeping what was learned" in capsys.readouterr().err  # it got as far as the training


def test_the_teacher_hears_no_held_out_clip(arguments, folder, monkeypatch):
    """Each clip is a level of its own, which every crop of it keeps."""
    for i, path in enumerate(sorted(folder.glob("*/*.wav"))):
        soundfile.write(path, np.full(6000, 0.05 * (i + 1)), 8000)
    heard = set()

    def spy(self, waveform, sample_rate_hz):
        heard.update(np.unique(waveform.round(3)).tolist())
        return hear(self, waveform, sample_rate_hz)

    hear = Teacher.hear
    monkeypatch.setattr(Teacher, "hear", spy)
    monkeypatch.setattr(TaughtBatches, "generate", interrupt_here)
    options = ["--mixup", "0", "--validation-fold", "2", "--no-export"]
    assert command.main([*arguments, *options]) == 130
    dataset = load_dataset("folder", folder)
    split = Split.of(dataset, 1, 2)
    levels = [dataset.read(clip, 8000).round(3)[0].item() for clip in dataset.clips]
    assert heard == {levels[i] for i in split.train}
    assert heard.isdisjoint({levels[i] for i in [*split.test, *split.validation]})


def test_refuses_a_teacher_that_cannot_teach_what_is_asked(
    arguments, convert, folder, tmp_path, capsys
):
    tf = pytest.importorskip("tensorflow")
    path = convert(lambda waveform: tf.sigmoid(tf.reshape(waveform, (1, 64))), (64,))
    for teacher, message in (
        (path, "Set `teacher_embedding_weight` to 0"),
        (folder, "Is a directory"),
    ):
        assert command.main([*arguments, "--teacher", str(teacher)]) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("training.fit: error:")
        assert message in error
        assert not (tmp_path / "run").exists()
