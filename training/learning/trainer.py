"""The training loop, from the first epoch or from a checkpoint."""

import sys
from dataclasses import dataclass
from typing import NamedTuple

import h5py
import keras
import numpy as np

from edge.types import FloatArray, IntArray
from semanticac_keras import SemanticAC, TaggerTower
from semanticac_keras.export import Quantization
from training.datasets import AudioDataset
from training.datasets.cache import Embeddings, load_clips, load_embeddings
from training.datasets.split import Split
from training.learning.batches import (
    Batch,
    Batches,
    EmbeddingBatches,
    TrainingBatches,
    label_shares,
)
from training.learning.callbacks import (
    ProgressBar,
    Recorder,
    SeedByEpoch,
    StopIfNotFinite,
    Validation,
    finalize_weights,
    save_weights,
)
from training.learning.cpu import tune_for_cpu
from training.learning.distribution import ONE_DEVICE, Devices, device_kind
from training.learning.interrupts import stopping_between_steps
from training.learning.phases import Phase, make_trainable, phases_of
from training.learning.recipes import Recipe
from training.runs.run import Row, Run, RunError, best_epoch


@dataclass(frozen=True, eq=False)
class Job:
    """One training: its model, data, recipe and run directory.

    Args:
        model: untrained or pretrained model.
        dataset: labelled clips.
        split: clips for training, validation and test.
        recipe: settings of the training.
        run: directory for all results.
        resume: continue from the run's checkpoint.
        quantization: quantization of the exported bundle; None saves and exports no model.
        devices: devices on which the model was built.
    """

    model: SemanticAC
    dataset: AudioDataset
    split: Split
    recipe: Recipe
    run: Run
    resume: bool = False
    quantization: Quantization | None = "float32"
    devices: Devices = ONE_DEVICE


class Material(NamedTuple):
    """Examples to learn from.

    Args:
        batches: batches for training.
        clips: index into the dataset of each of the batches' clips, (n,).
        validation: inputs and label shares to watch, if there are any.
        embeddings: a tagger's embeddings of all clips of the dataset, if there is one.
    """

    batches: Batches
    clips: IntArray
    validation: Batch | None
    embeddings: Embeddings | None = None


class Learned(NamedTuple):
    """Results of a training, besides the trained model.

    Args:
        clips: waveforms of all clips of the dataset at the model's rate.
        clips_per_epoch: number of clips trained on in each epoch.
        finished: False after an interrupt; the model is usable all the same.
        embeddings: a tagger's embeddings of all clips, if there is one.
    """

    clips: list[FloatArray]
    clips_per_epoch: int
    finished: bool
    embeddings: Embeddings | None


def learn(job: Job) -> Learned:
    """Train a job's model to the last epoch, or until Ctrl-C.

    Raises:
        DatasetError: if a clip cannot be read.
        RunError: if the checkpoint to resume from cannot be read, or the loss or a weight becomes
            NaN or infinite.
    """
    if device_kind() == "cpu":
        tune_for_cpu()
    model = job.model
    clips = load_clips(job.dataset, model.front_end.sample_rate_hz, progress=True)
    if isinstance(model.audio_tower, TaggerTower):
        material = _embeddings(job, model.audio_tower, clips)
    else:
        material = _sounds(job, clips)
    batches = material.batches
    with job.devices.scope():
        finished = _train(job, material)
        make_trainable(model, job.recipe, batches.steps_per_epoch, job.dataset.exclusive)
    clips_per_epoch = batches.steps_per_epoch * batches.batch_size
    return Learned(clips, clips_per_epoch, finished, material.embeddings)


def _sounds(job: Job, clips: list[FloatArray]) -> Material:
    """Prepare a training on augmented waveforms or, on a CPU, their log-mels."""
    recipe, split, front_end = job.recipe, job.split, job.model.front_end
    labels = job.dataset.truth(range(len(clips)))
    training_clips = clips
    if recipe.training_rate_hz not in (0, front_end.sample_rate_hz):
        training_clips = load_clips(job.dataset, recipe.training_rate_hz, progress=True)
    batches = TrainingBatches(
        [training_clips[i] for i in split.train],
        labels[split.train],
        len(job.dataset.labels),
        recipe.batch_size,
        front_end.window_samples,
        recipe.augmentation,
        recipe.seed,
        front_end if device_kind() == "cpu" else None,
        job.model.exclusive,
        job.model.audio_tower.whole_repeats,
    )
    validation = None
    if split.watched.size:
        windows, owners = job.model.audio_tower.windows_of([clips[i] for i in split.watched])
        shares = label_shares(labels[split.watched][owners], len(job.dataset.labels))
        validation = (batches.inputs(windows), shares)
    return Material(batches, split.train, validation)


def _embeddings(job: Job, tower: TaggerTower, clips: list[FloatArray]) -> Material:
    """Prepare a training on a tagger's embeddings of all windows."""
    recipe, num_labels = job.recipe, len(job.dataset.labels)
    labels = job.dataset.truth(range(len(clips)))
    embeddings = load_embeddings(job.dataset, tower, clips, progress=True)
    windows, owners = embeddings
    train, watched = (
        np.flatnonzero(np.isin(owners, part)) for part in (job.split.train, job.split.watched)
    )
    batches = EmbeddingBatches(
        windows[train],
        labels[owners[train]],
        num_labels,
        recipe.batch_size,
        recipe.augmentation.mixup,
        recipe.seed,
        job.model.exclusive,
    )
    validation = None
    if watched.size:
        validation = (windows[watched], label_shares(labels[owners[watched]], num_labels))
    return Material(batches, owners[train], validation, embeddings)


def _train(job: Job, material: Material) -> bool:
    """Train to the last epoch; return False after an interrupt. The model is usable either way."""
    model, recipe, run, batches = job.model, job.recipe, job.run, material.batches
    steps_per_epoch = batches.steps_per_epoch
    phases, first_epoch = _begin(job, steps_per_epoch)
    bar = ProgressBar(recipe.epochs, first_epoch)
    rows = run.read_history()[:first_epoch]
    if job.split.validation_fold is not None:
        _restore_selected(model, run, rows)

    def names_of(epoch: int, batch: int) -> list[str]:
        chosen = batches.chosen(epoch * steps_per_epoch + batch)
        return [job.dataset.clips[i].name for i in material.clips[chosen]]

    try:
        with stopping_between_steps() as interrupt:
            for phase in phases:
                if phase is not phases[0]:
                    phase.begin(model, recipe, steps_per_epoch, job.dataset.exclusive)
                initial_epoch = max(first_epoch, phase.first_epoch)
                model.fit(
                    job.devices.share(batches.generate(initial_epoch)),
                    steps_per_epoch=steps_per_epoch,
                    initial_epoch=initial_epoch,
                    epochs=phase.end,
                    validation_data=material.validation,
                    callbacks=[
                        *job.devices.callbacks(),
                        SeedByEpoch(),
                        StopIfNotFinite(run, names_of),
                        Validation(run, rows, select=job.split.validation_fold is not None),
                        Recorder(run, rows),
                        bar,
                        interrupt,
                    ],
                    shuffle=False,  # `TrainingBatches` shuffles
                    verbose=0,
                )
    except KeyboardInterrupt:
        print("training.fit: interrupted; keeping the weights trained so far", file=sys.stderr)
        return False
    finally:
        bar.close()
        finalize_weights(model)
    return True


def _begin(job: Job, steps_per_epoch: int) -> tuple[list[Phase], int]:
    """Begin the first phase, or load the checkpoint to resume from.

    Returns:
        The phases from there, and the epoch at which to continue, from 0.
    """
    phases, checkpoint = phases_of(job.recipe), job.run.checkpoint
    phases[0].begin(job.model, job.recipe, steps_per_epoch, job.dataset.exclusive)
    if not (job.resume and checkpoint.exists()):
        return phases, 0
    try:
        with h5py.File(checkpoint) as file:
            stored = len(file["optimizer/vars"])
        while len(job.model.optimizer.variables) != stored:
            if len(phases) == 1:
                raise ValueError("its optimizer was made for other weights")
            del phases[0]
            phases[0].begin(job.model, job.recipe, steps_per_epoch, job.dataset.exclusive)
        job.model.load_weights(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]  # Keras adds all shapes of a mismatch
        raise RunError(f"{checkpoint} cannot be read: {reason}") from error
    return phases, phases[0].first_epoch + int(job.model.optimizer.iterations) // steps_per_epoch


def _restore_selected(model: SemanticAC, run: Run, rows: list[Row]) -> None:
    """Restore the weights of the best epoch so far, which a finished run has only in its model."""
    best = best_epoch(rows)
    if best is None or run.selected(best).exists():
        return
    current = model.get_weights()
    model.set_weights(keras.saving.load_model(run.model, compile=False).get_weights())
    save_weights(model, run.selected(best))
    model.set_weights(current)
