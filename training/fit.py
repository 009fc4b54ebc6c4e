"""Train on one fold: `python -m training.fit --dataset demo`."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

# TensorFlow's start-up notes are not for users; what goes wrong is raised anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import soundfile

from edge import StreamingClassifier
from edge.files import replacing
from edge.frontend import FloatArray
from semanticac_keras import (
    CheckpointError,
    CLIPTokenizer,
    ExportError,
    SemanticAC,
    export_tflite,
    load_audio_checkpoint,
    load_text_checkpoint,
    presets,
)
from semanticac_keras.audio_tower import window_batch
from semanticac_keras.download import DownloadError
from semanticac_keras.export import Quantization
from training.augment import Augmentation
from training.callbacks import ProgressBar, Recorder, SeedByEpoch
from training.datasets import DATASETS, AudioDataset, DatasetError, load_dataset
from training.evaluation import Evaluation
from training.pipeline import Batch, TrainingBatches, one_hot
from training.plots import plot_confusion, plot_curves, plot_stream
from training.recipes import RECIPES, Recipe
from training.report import write_report
from training.run import Run, RunError, describe, free_directory

_PROGRAM = "training.fit"
_EXPORT_CHECK_CLIPS = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 (an error) or 130 (interrupted)."""
    arguments = _parse(argv)
    try:
        recipe = RECIPES[arguments.preset].override(_overrides(arguments))
        dataset = load_dataset(arguments.dataset, arguments.data_dir)
        fold = dataset.folds[0] if arguments.fold is None else arguments.fold
        dataset.split(fold)  # a fold that is not there is an error before anything is written
        weights = Weights(arguments.audio_weights, arguments.text_weights, arguments.bpe_vocab)
        model = build_model(dataset.labels, recipe, weights)
        run = _open_run(arguments, dataset, fold, recipe)
        return fit(model, dataset, fold, recipe, run, arguments.resume, arguments.quantization)
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


@dataclass(frozen=True)
class Weights:
    """Where the towers' weights come from; random where not given.

    Args:
        audio: path or registered name, see `semanticac_keras.load_audio_checkpoint`.
        text: likewise for the text encoder.
        vocabulary: CLIP's vocabulary file, for presets that use it.
    """

    audio: str | None = None
    text: str | None = None
    vocabulary: Path | None = None


def build_model(labels: Sequence[str], recipe: Recipe, weights: Weights) -> SemanticAC:
    """The model before training; sets Keras' global seed and precision to the recipe's.

    Args:
        labels: class names.
        recipe: how it will be trained.
        weights: where its weights come from.
    """
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    tokenizer = presets.tokenizer(recipe.preset)
    if weights.vocabulary is not None:
        if not isinstance(tokenizer, CLIPTokenizer):
            raise ValueError(f"preset {recipe.preset!r} reads bytes; it takes no --bpe-vocab")
        tokenizer = CLIPTokenizer(weights.vocabulary, tokenizer.context_length)
    model = SemanticAC.from_preset(
        recipe.preset,
        labels,
        prompt=recipe.prompt,
        targets=recipe.targets,
        label_smoothing=recipe.label_smoothing,
        spec_augment=recipe.spec_augment,
        tokenizer=tokenizer,
    )
    if weights.audio:
        load_audio_checkpoint(model.audio_tower.encoder, weights.audio)
    if weights.text:
        load_text_checkpoint(model.text_encoder, weights.text)
        model.bake_labels()
    return model


def fit(
    model: SemanticAC,
    dataset: AudioDataset,
    fold: int,
    recipe: Recipe,
    run: Run,
    resume: bool = False,
    quantization: Quantization = "float32",
) -> int:
    """Train on all folds but one, evaluate on that one after the last epoch, and export.

    The held-out fold chooses nothing: its curve is only drawn. Interrupted, the run is evaluated
    and exported as it stands after the last whole step, and can be resumed.

    Args:
        model: untrained, or filled with pretrained weights.
        dataset: labelled clips.
        fold: the fold that is held out.
        recipe: how to train.
        run: where everything is written.
        resume: go on from the run's checkpoint.
        quantization: of the exported bundle.

    Returns:
        0, 1 if the model could not be exported, or 130 if the training was interrupted.
    """
    train, test = dataset.split(fold)
    labels = np.array([clip.label for clip in dataset.clips])
    rate_hz, window_samples = model.front_end.sample_rate_hz, model.front_end.window_samples
    clips = dataset.load(np.concatenate([train, test]), rate_hz, progress=True)
    train_clips, test_clips = clips[: len(train)], clips[len(train) :]
    batches = TrainingBatches(
        train_clips,
        labels[train],
        len(dataset.labels),
        recipe.batch_size,
        window_samples,
        recipe.augmentation,
        recipe.seed,
    )
    model.compile(recipe.make_optimizer(batches.steps_per_epoch), metrics=["accuracy"])
    first_epoch = _restore(model, run, batches.steps_per_epoch) if resume else 0
    windows, owners = window_batch(test_clips, window_samples)
    held_out = (windows, one_hot(labels[test][owners], len(dataset.labels)))

    started = time.perf_counter()
    finished = _train(model, batches, held_out, run, first_epoch, recipe.epochs)
    figures = {
        "training_seconds": round(time.perf_counter() - started, 1),
        "training_clips": len(train),
        "held_out_clips": len(test),
        "interrupted": not finished,
        "epochs": len(run.read_history()),
        **_sizes(model),
    }
    evaluation = Evaluation(dataset.labels, labels[test], model.predict(test_clips, verbose=0))
    figures |= {"accuracy": evaluation.accuracy, "per_class_accuracy": evaluation.per_class()}
    with replacing(run.directory / "model.keras") as temporary:
        model.save(temporary)
    receipt = {
        "dataset": dataset.name,
        "held_out_fold": fold,
        "accuracy": evaluation.accuracy,
        "held_out_clips": len(test),
        "recipe": asdict(recipe),
    }
    try:
        contract = export_tflite(
            model,
            run.directory / "model.tflite",
            quantization,
            clips=test_clips[:_EXPORT_CHECK_CLIPS],
            training=receipt,
            licence=dataset.licence,
        )
        figures["export"] = {"quantization": quantization, **contract.parity}
        if dataset.name == "demo":
            _write_example(run.directory, test_clips)
    except ExportError as error:
        figures["export"] = {"error": str(error)}
    plot_confusion(evaluation, run.directory / "confusion_matrix.png")
    plot_curves(run.read_history(), run.directory / "curves.png")
    names = [dataset.clips[i].name for i in test]
    write_report(run, dataset, fold, evaluation, names, figures)
    if finished:
        run.write_json(run.metrics, figures)
    return _conclude(run, dataset, fold, figures)


def _train(
    model: SemanticAC,
    batches: TrainingBatches,
    held_out: Batch,
    run: Run,
    first_epoch: int,
    epochs: int,
) -> bool:
    """Train to the last epoch; False if it was interrupted, with the model in a usable state."""
    bar = ProgressBar(epochs, first_epoch)
    try:
        model.fit(
            batches.generate(first_epoch),
            steps_per_epoch=batches.steps_per_epoch,
            initial_epoch=first_epoch,
            epochs=epochs,
            validation_data=held_out,
            callbacks=[SeedByEpoch(), Recorder(run, run.read_history()[:first_epoch]), bar],
            shuffle=False,  # the batches are a permutation already
            verbose=0,
        )
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted; keeping what was learned so far", file=sys.stderr)
        return False
    finally:
        bar.close()
        _settle(model)
    return True


def _sizes(model: SemanticAC) -> dict[str, Any]:
    """Parameters of each part, and the paper's h, w, d and C."""
    tower = model.audio_tower
    return {
        "parameters": {
            "audio encoder": tower.encoder.count_params(),
            "CSCM": tower.head.count_params(),
            "text encoder": model.text_encoder.count_params(),
        },
        "token_map": [*tower.encoder.output_grid, tower.encoder.output_dim],
        "embedding_dim": tower.embedding_dim,
    }


def _conclude(run: Run, dataset: AudioDataset, fold: int, figures: dict[str, Any]) -> int:
    """Say what came out; return the exit status."""
    print(
        f"fold {fold} of {dataset.name}: accuracy {figures['accuracy']:.1%} "
        f"on {figures['held_out_clips']} clips"
    )
    print(f"report: {run.directory / 'report.md'}")
    if reason := figures["export"].get("error"):
        print(f"{_PROGRAM}: error: trained, but not exported: {reason}", file=sys.stderr)
        return 1
    print(f"device: semanticac-edge --model {run.directory / 'model.tflite'} --file recording.wav")
    return 130 if figures["interrupted"] else 0


def _open_run(
    arguments: argparse.Namespace, dataset: AudioDataset, fold: int, recipe: Recipe
) -> Run:
    config = describe(dataset.name, fold, recipe)
    if arguments.resume:
        run = Run(arguments.resume)
        run.check_resumable(config)
        return run
    run = Run(arguments.out or free_directory(Path("runs") / f"{dataset.name}-fold{fold}"))
    run.start(config)
    return run


def _restore(model: SemanticAC, run: Run, steps_per_epoch: int) -> int:
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


def _settle(model: SemanticAC) -> None:
    """Leave the model as at the end of training: averaged weights in place, labels baked."""
    if getattr(model, "_jax_state_synced", True) is False:
        model.jax_state_sync()
    if model.optimizer.built:
        model.optimizer.finalize_variable_values(model.trainable_variables)
        # On JAX the averages now share memory with the optimiser's, which `predict` would free.
        for variable in model.trainable_variables:
            variable.assign(keras.ops.copy(variable))
    model.bake_labels()


def _write_example(directory: Path, clips: Sequence[FloatArray]) -> None:
    """A recording of held-out sounds in a row, and what the bundle makes of it as a stream."""
    classifier = StreamingClassifier(directory / "model.tflite", hop_seconds=0.25)
    recording = np.concatenate(clips[:: max(1, len(clips) // 6)][:6])
    with replacing(directory / "example.wav") as temporary:
        soundfile.write(temporary, recording, classifier.front_end.sample_rate_hz, subtype="PCM_16")
    results = classifier.push(recording) + classifier.flush()
    plot_stream(recording, classifier.front_end, results, directory / "example.png")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {_PROGRAM}", description="Train on all folds but one and export."
    )
    parser.add_argument("--dataset", required=True, choices=sorted(DATASETS))
    parser.add_argument("--data-dir", type=Path, help="where the dataset lies; else it is fetched")
    parser.add_argument("--fold", type=int, help="the fold held out; default: the first")
    parser.add_argument("--out", type=Path, help="run directory; default: a new one in runs/")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run")
    parser.add_argument("--preset", choices=sorted(RECIPES), default="tiny")
    parser.add_argument("--audio-weights", metavar="SRC", help="checkpoint of the audio encoder")
    parser.add_argument("--text-weights", metavar="SRC", help="checkpoint of the text encoder")
    parser.add_argument("--bpe-vocab", type=Path, metavar="FILE", help="CLIP's vocabulary")
    parser.add_argument("--quantization", choices=get_args(Quantization), default="float32")
    recipe = parser.add_argument_group("recipe; each preset has its own defaults")
    for cls in (Recipe, Augmentation):
        hints = get_type_hints(cls)
        for item in fields(cls):
            if item.name not in ("preset", "augmentation"):
                recipe.add_argument(f"--{item.name.replace('_', '-')}", **_option(hints[item.name]))
    return parser.parse_args(argv)


def _option(hint: Any) -> dict[str, Any]:
    """How argparse reads a field of that type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"type": get_args(hint)[0], "nargs": len(get_args(hint))}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    return {"type": hint}


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The recipe's fields that were given."""
    names = [f.name for cls in (Recipe, Augmentation) for f in fields(cls)]
    given = {name: getattr(arguments, name, None) for name in names}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }


if __name__ == "__main__":
    sys.exit(main())
