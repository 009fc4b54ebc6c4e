"""`learn` without the training itself: the arguments of Keras' `fit`, interrupts and resuming."""

import keras
import numpy as np
import pytest

from semanticac_keras import SemanticAC
from training.datasets import load_dataset
from training.datasets.split import Split
from training.learning import trainer
from training.learning.batches import TrainingBatches
from training.learning.callbacks import StopIfNotFinite
from training.learning.recipes import Recipe
from training.learning.trainer import Job, learn
from training.runs.run import Run, RunError


@pytest.fixture
def dataset(folder):
    return load_dataset("folder", folder, progress=False)


@pytest.fixture
def fit(monkeypatch):
    """Arguments of `SemanticAC.fit`, which is replaced and does not train."""
    options = {}
    monkeypatch.setattr(SemanticAC, "fit", lambda self, *_, **kwargs: options.update(kwargs))
    return options


@pytest.fixture
def job(micro, dataset, tmp_path):
    """`job(split, resume, **fields)`: a training of the micro preset on the folder."""

    def job(split, resume=False, **fields):
        recipe = Recipe(micro, batch_size=3, epochs=5, **fields)
        model = SemanticAC.from_preset(micro, dataset.labels)
        run = Run(tmp_path / "run")
        run.directory.mkdir()
        return Job(model, dataset, split, recipe, run, resume)

    return job


def test_trains_in_complete_batches_and_validates_on_the_watched_windows(job, dataset, fit):
    learned = learn(job(Split.of(dataset, 1)))
    # Eight clips to train on; two held out, each of two overlapping windows.
    assert (learned.clips_per_epoch, learned.finished) == (6, True)
    assert [clip.size for clip in learned.clips] == [6000] * 10
    assert (fit["initial_epoch"], fit["epochs"], fit["steps_per_epoch"]) == (0, 5, 2)
    inputs, shares = fit["validation_data"]
    assert len(inputs) == len(shares) == 4
    np.testing.assert_array_equal(shares.sum(axis=0), [2, 2])


def test_without_a_held_out_fold_nothing_is_validated(job, dataset, fit):
    assert learn(job(Split.whole(dataset))).clips_per_epoch == 9
    assert fit["validation_data"] is None


def test_training_clips_can_have_another_rate(job, dataset, fit, monkeypatch):
    def load(dataset, rate_hz, progress):
        rates_hz.append(rate_hz)
        return load_clips(dataset, rate_hz)

    rates_hz, load_clips = [], trainer.load_clips
    monkeypatch.setattr(trainer, "load_clips", load)
    learned = learn(job(Split.of(dataset, 1), training_rate_hz=12_000))
    assert rates_hz == [8000, 12_000]
    assert learned.clips[0].size == 6000  # tested at the front end's rate


def test_an_interrupt_leaves_a_usable_model(job, dataset, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(SemanticAC, "fit", interrupt)
    training = job(Split.of(dataset, 1))
    learned = learn(training)
    assert not learned.finished
    assert "training.fit: interrupted" in capsys.readouterr().err
    assert np.isfinite(training.model.predict(learned.clips[:1], verbose=0)).all()


def test_a_resumed_run_continues_after_the_checkpoints_epoch(job, dataset, fit):
    split = Split.of(dataset, 1)
    training = job(split, resume=True)
    training.model.compile(training.recipe.make_optimizer(2))
    training.model.optimizer.build(training.model.trainable_variables)
    training.model.optimizer.iterations.assign(6)
    training.model.save_weights(training.run.checkpoint)
    rows = [{"epoch": epoch, "loss": 0.5} for epoch in (1.0, 2.0, 3.0, 4.0)]
    training.run.write_history(rows)
    learn(training)
    assert fit["initial_epoch"] == 3
    [recorder] = [c for c in fit["callbacks"] if isinstance(c, trainer.Recorder)]
    assert recorder.rows == rows[:3]  # the fourth is newer than the checkpoint


def test_a_resume_without_a_checkpoint_starts_over(job, dataset, fit):
    learn(job(Split.of(dataset, 1), resume=True))
    assert fit["initial_epoch"] == 0


def test_a_damaged_checkpoint_is_named(job, dataset, fit):
    training = job(Split.of(dataset, 1), resume=True)
    training.run.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match=r"checkpoint.weights.h5 cannot be read"):
        learn(training)


def test_a_checkpoint_of_other_weights_is_named(job, dataset, fit):
    training = job(Split.of(dataset, 1), resume=True)
    training.model.audio_tower.encoder.trainable = False
    training.model.compile(training.recipe.make_optimizer(2))
    training.model.optimizer.build(training.model.trainable_variables)
    training.model.save_weights(training.run.checkpoint)
    training.model.audio_tower.encoder.trainable = True
    with pytest.raises(RunError, match="its optimizer was made for other weights"):
        learn(training)


def test_an_epoch_is_selected_only_on_a_validation_fold(job, dataset, fit):
    learn(job(Split.of(dataset, 1, 2)))
    [validation] = [c for c in fit["callbacks"] if isinstance(c, trainer.Validation)]
    assert validation.select
    assert all(isinstance(callback, keras.callbacks.Callback) for callback in fit["callbacks"])


@pytest.mark.usefixtures("eager")
def test_a_loss_that_is_not_finite_stops_it_and_names_the_clips(job, dataset, monkeypatch):
    training = job(Split.whole(dataset))

    def record(self, number):
        inputs, shares = batch(self, number)
        return (inputs * np.nan if number == 1 else inputs), shares

    batch = TrainingBatches.batch
    monkeypatch.setattr(TrainingBatches, "batch", record)
    training.run.checkpoint.write_bytes(b"the last good one")
    with pytest.raises(RunError) as caught:
        learn(training)
    [line] = str(caught.value).splitlines()
    assert "epoch 1: the loss became nan in batch 2 (" in line
    assert f"--resume {training.run.directory} continues" in line
    # Batches of three, whose clips depend on the seed alone.
    order = np.random.default_rng([training.recipe.seed, 0, 0]).permutation(10)
    assert f"({', '.join(dataset.clips[i].name for i in order[3:6])})" in line
    assert training.run.checkpoint.read_bytes() == b"the last good one"
    assert not training.run.history.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(job, dataset, value):
    """The last update of an epoch can overflow after a finite loss."""
    training = job(Split.of(dataset, 1))
    check = StopIfNotFinite(training.run, lambda *_: ())
    check.set_model(training.model)
    check.on_epoch_begin(1)
    check.on_train_batch_end(0, {"loss": 0.5})
    check.on_test_begin()
    with pytest.raises(RunError, match=r"epoch 2: val_loss became (nan|inf)\. Nothing"):
        check.on_epoch_end(1, {"loss": 0.5, "val_loss": value})
    training.model.logit_scale.assign(value)
    for save in (check.on_test_begin, lambda: check.on_epoch_end(1, {"loss": 0.5})):
        with pytest.raises(RunError, match=r"epoch 2: .*logit_scale became NaN or infinite"):
            save()
