"""Train on one fold: `python -m training.fit --dataset demo`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

from edge.config.options import CommandParser
from semanticac_keras.export import Quantization
from training.datasets import AudioDataset, load_dataset
from training.datasets.base import name_some
from training.datasets.split import NO_FOLD, Split
from training.inspection.checks import print_warnings
from training.learning.checks import check_learnable
from training.learning.distribution import Devices
from training.learning.interrupts import exiting_on_sigterm
from training.learning.model import Weights, build_model
from training.learning.options import chosen_recipe, recipe_for_dataset, training_options
from training.learning.own_weights import own_path, seen_clips
from training.learning.texts import read_texts
from training.learning.trainer import Job, learn
from training.report import write_report
from training.runs import outcome
from training.runs.commands import status_of
from training.runs.evaluation import Predictions
from training.runs.files import writing
from training.runs.lock import locked
from training.runs.run import Run, free_directory, write_json

_PROGRAM = "training.fit"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    arguments = parse(argv)
    return status_of(_PROGRAM, lambda: _train(arguments))


def _train(arguments: argparse.Namespace) -> int:
    chosen_recipe(arguments)  # refuses wrong values before anything is read
    dataset = load_dataset(arguments.dataset, arguments.data_dir, decoder=arguments.decoder)
    recipe = recipe_for_dataset(arguments, dataset)
    fold = dataset.folds[0] if arguments.fold is None else arguments.fold
    split = checked_split(arguments, dataset, fold)
    check_learnable(split, recipe)
    texts = read_texts(arguments.label_texts, dataset.labels)
    weights = Weights(
        arguments.audio_weights,
        arguments.text_weights,
        arguments.bpe_vocab,
        arguments.weights,
        arguments.tagger_rate,
    )
    devices = Devices.select(arguments.devices, min(recipe.batch_size, len(split.train)))
    with exiting_on_sigterm(), ExitStack() as lock:
        if devices.leads:
            _check_directory(arguments, dataset, fold, lock)
            _note_targets(dataset)
            print_warnings(_PROGRAM, dataset)
        with devices.scope():
            model = build_model(dataset.labels, recipe, weights, texts)
        if devices.leads:
            run = _open_run(arguments, dataset, fold, lock)
        else:
            run = devices.scratch_run(arguments.resume)
        return fit(
            Job(
                model,
                dataset,
                split,
                recipe,
                run,
                arguments.resume is not None,
                arguments.quantization,
                devices,
            )
        )


def _note_targets(dataset: AudioDataset) -> None:
    """Say why the labels are independent, if the clips require it."""
    if number := dataset.num_not_single:
        print(
            f"{_PROGRAM}: {number:,} of {len(dataset.clips):,} clips have several labels or none: "
            "--targets sigmoid",
            file=sys.stderr,
        )


def fit(job: Job) -> int:
    """Train on all folds but one, evaluate on the held-out fold if there is one, and export.

    The held-out fold selects nothing: without a validation fold, its result per epoch is only
    plotted. A validation fold selects its best epoch, the last of equals. After an interrupt, the
    model of the last complete step is evaluated and exported, and the run can be resumed.

    Args:
        job: the training.

    Returns:
        0, 1 if the model could not be exported, or 130 if the training was interrupted.
    """
    learned = learn(job)
    model, dataset, split, run = job.model, job.dataset, job.split, job.run
    figures = {
        "training_clips": len(split.train),
        "held_out_clips": len(split.test),
        "interrupted": not learned.finished,
        **outcome.speed(run.read_history(), learned.clips_per_epoch),
        **outcome.sizes(model),
    }
    evaluation = None
    if split.test.size:
        test_clips = [learned.clips[i] for i in split.test]
        embeddings = learned.embeddings and learned.embeddings.of(split.test)
        evaluation, results = outcome.test(model, dataset, split, test_clips, run, embeddings)
        figures |= {**results, **evaluation.figures()}
        evaluation.save(run.predictions)
    if job.quantization is not None:
        with writing(run.model) as temporary:
            model.save(temporary)
        receipt = {
            "dataset": dataset.name,
            **({} if dataset.copies_at_hz is None else {"copies_at_hz": dataset.copies_at_hz}),
            "held_out_fold": split.fold or None,
            "validation_fold": split.validation_fold,
            **({} if evaluation is None else {evaluation.key: evaluation.quality}),
            "held_out_clips": len(split.test),
            "recipe": job.recipe.to_json(),
        }
        compared = split.test if split.test.size else split.train
        figures["export"] = outcome.export(
            model,
            dataset,
            compared,
            [learned.clips[i] for i in compared],
            run,
            receipt,
            job.quantization,
        )
    write_report(run, dataset, evaluation, figures)
    if learned.finished:
        write_json(run.metrics, figures)
        run.keep_selected(None)
        if job.quantization is None:
            run.checkpoint.unlink()
    if not job.devices.leads:
        return 0
    return _conclude(run, dataset, split.fold, evaluation, figures)


def _conclude(
    run: Run,
    dataset: AudioDataset,
    fold: int,
    evaluation: Predictions | None,
    figures: dict[str, Any],
) -> int:
    """Print the result and return the exit status."""
    if evaluation is None:
        print(
            f"trained on all {figures['training_clips']} clips of {dataset.name}; none was held "
            "out, so there is no test (training.crossval makes one)"
        )
    else:
        print(
            f"fold {fold} of {dataset.name}: {evaluation.measure} {evaluation.quality:.1%} "
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


def settings(arguments: argparse.Namespace, dataset: AudioDataset, fold: int) -> dict[str, Any]:
    """Return the settings that determine a run's result, for its `config.json`."""
    return {
        "dataset": dataset.name,
        # Left out by default, so that runs from before this option can be resumed.
        **({} if arguments.decoder == "soundfile" else {"decoder": arguments.decoder}),
        "fold": fold if fold != NO_FOLD else None,
        "validation_fold": arguments.validation_fold,
        "recipe": recipe_for_dataset(arguments, dataset).to_json(),
        "label_texts": read_texts(arguments.label_texts, dataset.labels),
        "weights": {
            "audio": arguments.audio_weights,
            **({} if arguments.tagger_rate == 16_000 else {"tagger_rate": arguments.tagger_rate}),
            "text": arguments.text_weights,
            "vocabulary": arguments.bpe_vocab and str(arguments.bpe_vocab),
            "model": arguments.weights and str(Path(arguments.weights)),
        },
    }


def checked_split(arguments: argparse.Namespace, dataset: AudioDataset, fold: int) -> Split:
    """Divide the clips, and refuse a test on clips that the initial weights were trained on.

    Args:
        arguments: the command line.
        dataset: labelled clips.
        fold: held-out fold, or `NO_FOLD`.

    Raises:
        ValueError: if a fold does not exist, or the accuracy would be no test.
    """
    if fold == NO_FOLD:
        if arguments.validation_fold is not None:
            raise ValueError("--fold none trains on all clips; leave out --validation-fold")
        return Split.whole(dataset)
    split = Split.of(dataset, fold, arguments.validation_fold)
    own_model = own_path(arguments.weights) if arguments.weights else None
    if own_model is not None:
        trained_on = seen_clips(own_model, dataset)
        tested = [dataset.clips[i].name for i in (*split.test, *split.validation)]
        if seen := [name for name in tested if name in trained_on]:
            raise ValueError(
                f"--weights was trained on {len(seen):,} of the {len(tested):,} clips to test on "
                f"({name_some(seen)}), so the accuracy would be no test. Hold out the fold that it "
                "held out, or train on all clips with --fold none."
            )
    return split


def _check_directory(
    arguments: argparse.Namespace, dataset: AudioDataset, fold: int, lock: ExitStack
) -> None:
    """Refuse an unsuitable run directory before the model is built, and lock one to resume."""
    if arguments.resume:
        run = Run(arguments.resume)
        if run.config.exists():
            lock.enter_context(locked(run.directory))
        run.check_resumable(settings(arguments, dataset, fold), dataset.listing())
    elif arguments.out:
        Run(arguments.out).check_unused()


def _open_run(
    arguments: argparse.Namespace, dataset: AudioDataset, fold: int, lock: ExitStack
) -> Run:
    """Start a run, or open the one to resume; another process cannot use it before `lock` ends."""
    if arguments.resume:
        run = Run(arguments.resume)
        if run.metrics.exists():
            run.extend(chosen_recipe(arguments).epochs)
        return run
    name = f"{dataset.name}-all" if fold == NO_FOLD else f"{dataset.name}-fold{fold}"
    run = Run(arguments.out or free_directory(Path("runs") / name))
    lock.enter_context(locked(run.directory))
    run.start(settings(arguments, dataset, fold), clips=dataset.listing())
    return run


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Train on all folds but one, test on that fold, and export the model.",
        parents=[training_options()],
    )
    parser.add_argument(
        "--fold",
        type=_fold,
        help="held-out fold, or none to train the final model on all clips; default: the first",
    )
    parser.add_argument(
        "--validation-fold",
        type=int,
        metavar="FOLD",
        help="also leave this fold out of training, and keep the epoch that is best on it",
    )
    parser.add_argument("--out", type=Path, help="new run directory; default: a new one in runs/")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="continue an interrupted run, or a finished one to a higher --epochs",
    )
    parser.add_argument(
        "--devices",
        type=int,
        metavar="N",
        help="share each batch between N accelerators (JAX only); default: 1, or all if "
        "KERAS_DISTRIBUTION_NUM_PROCESSES is set",
    )
    export = parser.add_mutually_exclusive_group()
    export.add_argument(
        "--quantization",
        choices=get_args(Quantization),
        default="float32",
        help="weights of the exported model; default: float32",
    )
    export.add_argument(
        "--no-export",
        dest="quantization",
        action="store_const",
        const=None,
        help="save metrics and predictions, but no model and no weights",
    )
    return parser.parse_args(argv)


def _fold(text: str) -> int:
    """Parse a fold's number, or `none`."""
    if text == "none":
        return NO_FOLD
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be the number of a fold, or none, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
