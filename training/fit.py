"""Train on one fold: `python -m training.fit --dataset demo`."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, get_args

# TensorFlow's start-up notes are not for users; what goes wrong is raised anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from edge.files import replacing
from edge.inference.frontend import FloatArray
from semanticac_keras import CheckpointError, SemanticAC
from semanticac_keras.audio_tower import window_batch
from semanticac_keras.download import DownloadError
from semanticac_keras.export import Quantization
from training.datasets import AudioDataset, DatasetError, load_dataset
from training.datasets.cache import load_clips
from training.datasets.split import Split
from training.distillation import Student, enrol
from training.learning.batches import Batch, TrainingBatches, one_hot
from training.learning.callbacks import ProgressBar, Recorder, SeedByEpoch, Validation, settle
from training.learning.distribution import ONE_DEVICE, Devices, device_kind
from training.learning.model import Weights, build_model
from training.learning.options import CommandParser, chosen_recipe, chosen_teacher, training_options
from training.learning.recipes import Recipe
from training.learning.tagger import Teacher
from training.lessons import TaughtBatches
from training.report import write_report
from training.runs import outcome
from training.runs.run import Run, RunError, free_directory, write_json

_PROGRAM = "training.fit"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 (an error) or 130 (interrupted)."""
    arguments = parse(argv)
    try:
        recipe = chosen_recipe(arguments)
        dataset = load_dataset(arguments.dataset, arguments.data_dir, decoder=arguments.decoder)
        fold = dataset.folds[0] if arguments.fold is None else arguments.fold
        split = Split.of(dataset, fold, arguments.validation_fold)
        weights = Weights(arguments.audio_weights, arguments.text_weights, arguments.bpe_vocab)
        devices = Devices.select(arguments.devices, min(recipe.batch_size, len(split.train)))
        with devices.scope():
            model = build_model(dataset.labels, recipe, weights)
        teacher = chosen_teacher(arguments)
        if devices.leads:
            run = _open_run(arguments, dataset, fold, teacher)
        else:
            run = devices.scratch_run(arguments.resume)
        return fit(
            model,
            dataset,
            split,
            recipe,
            run,
            arguments.resume,
            arguments.quantization,
            teacher,
            devices,
        )
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except (
        CheckpointError,
        DatasetError,
        DownloadError,
        RunError,
        OSError,
        ValueError,
    ) as error:
        print(f"{_PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def fit(
    model: SemanticAC,
    dataset: AudioDataset,
    split: Split,
    recipe: Recipe,
    run: Run,
    resume: bool = False,
    quantization: Quantization | None = "float32",
    teacher: Teacher | None = None,
    devices: Devices = ONE_DEVICE,
) -> int:
    """Train on all folds but one, evaluate on that one after the last epoch, and export.

    The held-out fold chooses nothing: without a validation fold its curve is only drawn. With one,
    the epoch that is best on it is kept, the later of equals. Interrupted, the run is evaluated
    and exported as it stands after the last whole step, and can be resumed.

    Args:
        model: untrained, or filled with pretrained weights.
        dataset: labelled clips.
        split: what each clip is for.
        recipe: how to train.
        run: where everything is written.
        resume: go on from the run's checkpoint.
        quantization: of the exported bundle; None leaves no model at all behind, only figures.
        teacher: a tagger that the model learns from too.
        devices: where the model was built and is trained.

    Returns:
        0, 1 if the model could not be exported, or 130 if the training was interrupted.
    """
    learned = learn(model, dataset, split, recipe, run, resume, teacher, devices)
    figures = {
        "training_clips": len(split.train),
        "held_out_clips": len(split.test),
        "interrupted": not learned.finished,
        **outcome.speed(run.read_history(), learned.clips_per_epoch),
        **outcome.sizes(model),
    }
    test_clips = [learned.clips[i] for i in split.test]
    evaluation, accuracies = outcome.test(learned.learner, model, dataset, split, test_clips, run)
    figures |= {**accuracies, "per_class_accuracy": evaluation.per_class()}
    evaluation.save(run.predictions)
    if quantization is not None:
        if teacher:  # the optimiser that trained stays behind with the student
            model.optimizer.build(model.trainable_variables)
        with replacing(run.directory / "model.keras") as temporary:
            model.save(temporary)
        receipt = {
            "dataset": dataset.name,
            "held_out_fold": split.fold,
            "validation_fold": split.validation_fold,
            "accuracy": evaluation.accuracy,
            "held_out_clips": len(split.test),
            "recipe": asdict(recipe),
            "teacher": teacher and {"name": teacher.path.name, "sha256": teacher.sha256},
        }
        figures["export"] = outcome.export(model, dataset, test_clips, run, receipt, quantization)
    write_report(run, dataset, evaluation, figures)
    if learned.finished:
        write_json(run.metrics, figures)
        run.keep_selected(None)
        if quantization is None:
            run.checkpoint.unlink()
    if not devices.leads:
        return 0
    return _conclude(run, dataset, split.fold, figures)


class Learned(NamedTuple):
    """What is there after the last epoch.

    Args:
        learner: what was trained: the model, or the student that holds it.
        clips: waveforms of the whole dataset at the model's rate.
        clips_per_epoch: how many were trained on in each epoch.
        finished: False if it was interrupted; the model is usable all the same.
    """

    learner: SemanticAC | Student
    clips: list[FloatArray]
    clips_per_epoch: int
    finished: bool


def learn(
    model: SemanticAC,
    dataset: AudioDataset,
    split: Split,
    recipe: Recipe,
    run: Run,
    resume: bool = False,
    teacher: Teacher | None = None,
    devices: Devices = ONE_DEVICE,
) -> Learned:
    """Train a model; the arguments are those of `fit`."""
    labels = np.array([clip.label for clip in dataset.clips])
    rate_hz, window_samples = model.front_end.sample_rate_hz, model.front_end.window_samples
    clips = load_clips(dataset, rate_hz, progress=True)
    training_clips = clips
    if recipe.training_rate_hz not in (0, rate_hz):
        training_clips = load_clips(dataset, recipe.training_rate_hz, progress=True)
    batches = TrainingBatches(
        [training_clips[i] for i in split.train],
        labels[split.train],
        len(dataset.labels),
        recipe.batch_size,
        window_samples,
        recipe.augmentation,
        recipe.seed,
        model.front_end if device_kind() == "cpu" else None,
    )
    with devices.scope():
        learner, source = enrol(model, batches, teacher, recipe) if teacher else (model, batches)
        optimizer = recipe.make_optimizer(batches.steps_per_epoch)
        # An object has its variables before the step is traced, see `build_optimizer`.
        learner.compile(optimizer, metrics=[keras.metrics.CategoricalAccuracy("accuracy")])
        first_epoch = _restore(learner, run, batches.steps_per_epoch) if resume else 0
    validation = None
    if split.watched.size:
        windows, owners = window_batch([clips[i] for i in split.watched], window_samples)
        shares = one_hot(labels[split.watched][owners], len(dataset.labels))
        validation = (batches.inputs(windows), shares)
    selects = split.validation_fold is not None

    with devices.scope():
        finished = _train(
            learner, source, validation, run, first_epoch, recipe.epochs, selects, devices
        )
    return Learned(learner, clips, batches.steps_per_epoch * batches.batch_size, finished)


def _train(
    learner: SemanticAC | Student,
    batches: TrainingBatches | TaughtBatches,
    validation: Batch | None,
    run: Run,
    first_epoch: int,
    epochs: int,
    selects: bool,
    devices: Devices,
) -> bool:
    """Train to the last epoch; False if it was interrupted, with the model in a usable state."""
    bar = ProgressBar(epochs, first_epoch)
    rows = run.read_history()[:first_epoch]
    try:
        learner.fit(
            devices.share(batches.generate(first_epoch)),
            steps_per_epoch=batches.steps_per_epoch,
            initial_epoch=first_epoch,
            epochs=epochs,
            validation_data=validation,
            callbacks=[
                *devices.callbacks(),
                SeedByEpoch(),
                Validation(run, rows, selects),
                Recorder(run, rows),
                bar,
            ],
            shuffle=False,  # the batches are a permutation already
            verbose=0,
        )
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted; keeping what was learned so far", file=sys.stderr)
        return False
    finally:
        bar.close()
        settle(learner)
    return True


def _conclude(run: Run, dataset: AudioDataset, fold: int, figures: dict[str, Any]) -> int:
    """Say what came out; return the exit status."""
    print(
        f"fold {fold} of {dataset.name}: accuracy {figures['accuracy']:.1%} "
        f"on {figures['held_out_clips']} clips"
    )
    print(f"report: {run.directory / 'report.md'}")
    if "export" in figures:
        if reason := figures["export"].get("error"):
            print(f"{_PROGRAM}: error: trained, but not exported: {reason}", file=sys.stderr)
            return 1
        bundle = run.directory / "model.tflite"
        print(f"device: semanticac-edge --model {bundle} --file recording.wav")
    return 130 if figures["interrupted"] else 0


def settings(
    arguments: argparse.Namespace, dataset: AudioDataset, fold: int, teacher: Teacher | None
) -> dict[str, Any]:
    """What a run with these arguments depends on, for its `config.json`."""
    return {
        "dataset": dataset.name,
        # The default's runs are as they were before there was a choice.
        **({} if arguments.decoder == "soundfile" else {"decoder": arguments.decoder}),
        "fold": fold,
        "validation_fold": arguments.validation_fold,
        "recipe": asdict(chosen_recipe(arguments)),
        "weights": {
            "audio": arguments.audio_weights,
            "text": arguments.text_weights,
            "vocabulary": arguments.bpe_vocab and str(arguments.bpe_vocab),
        },
        "teacher": teacher
        and {
            "path": str(teacher.path),
            "sha256": teacher.sha256,
            "sample_rate_hz": teacher.sample_rate_hz,
        },
    }


def _open_run(
    arguments: argparse.Namespace, dataset: AudioDataset, fold: int, teacher: Teacher | None
) -> Run:
    wanted = settings(arguments, dataset, fold, teacher)
    if arguments.resume:
        run = Run(arguments.resume)
        run.check_resumable(wanted)
        return run
    run = Run(arguments.out or free_directory(Path("runs") / f"{dataset.name}-fold{fold}"))
    run.start(wanted)
    return run


def _restore(model: SemanticAC | Student, run: Run, steps_per_epoch: int) -> int:
    """Load the checkpoint, if an epoch was finished; return the epoch to go on with."""
    if not run.checkpoint.exists():
        return 0
    model.optimizer.build(model.trainable_variables)
    try:
        model.load_weights(run.checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run.checkpoint} cannot be read: {error}") from error
    model.bake_labels()
    return int(model.optimizer.iterations) // steps_per_epoch


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Train on all folds but one and export.",
        parents=[training_options()],
    )
    parser.add_argument("--fold", type=int, help="the fold held out; default: the first")
    parser.add_argument(
        "--validation-fold",
        type=int,
        metavar="FOLD",
        help="train on neither this fold, and keep the epoch that is best on it",
    )
    parser.add_argument("--out", type=Path, help="run directory; default: a new one in runs/")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run")
    parser.add_argument(
        "--devices",
        type=int,
        metavar="N",
        help="share each batch between N accelerators (JAX); default: one, or all where "
        "KERAS_DISTRIBUTION_NUM_PROCESSES and its like join several processes",
    )
    export = parser.add_mutually_exclusive_group()
    export.add_argument("--quantization", choices=get_args(Quantization), default="float32")
    export.add_argument(
        "--no-export",
        dest="quantization",
        action="store_const",
        const=None,
        help="only count: leave figures and predictions, but no bundle and no weights",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
