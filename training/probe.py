"""Judge a frozen audio tower by a linear probe: `python -m training.probe`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.config.options import CommandParser
from edge.types import IntArray
from semanticac_keras import CheckpointError, Tagger, TaggerTower, heads, load_pretrained
from semanticac_keras.audio_tower import Tower
from semanticac_keras.checkpoints.registry import is_tagger, resolve
from semanticac_keras.pretrained import is_pretrained
from training.datasets import load_dataset
from training.datasets.cache import load_clips
from training.inspection.checks import print_warnings
from training.learning.options import add_tagger_rate, dataset_options, positive_int
from training.learning.own_weights import load_own_model, own_path, seen_clips
from training.runs.commands import status_of
from training.runs.markdown import table
from training.runs.probing import Features, check_available
from training.runs.results import Spread
from training.runs.run import provenance, write_json

_PROGRAM = "training.probe"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    arguments = _parser().parse_args(argv)
    return status_of(_PROGRAM, lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    results = _probe(arguments)
    if arguments.out is not None:
        write_json(arguments.out, {**results, **provenance(_PROGRAM)})
    print("\n".join(_lines(results)))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Train a logistic regression on the features of a frozen audio tower, and test "
        "it on each fold. The features are the mean and the maximum over time of the tower's token "
        "map.",
        parents=[dataset_options()],
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="SRC",
        help="pretrained, the audio tower that comes with the package, or the path of one; a "
        ".tflite tagger, or yamnet; or your own: a run directory or a .keras file",
    )
    add_tagger_rate(parser)
    parser.add_argument(
        "--clips-per-class",
        type=positive_int,
        metavar="N",
        help="train on N random clips of each class alone; default: all of the other folds",
    )
    parser.add_argument(
        "--draws",
        type=positive_int,
        default=10,
        metavar="N",
        help="number of draws of --clips-per-class for each fold; default: 10",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws; default: 0")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for the results")
    return parser


def _probe(arguments: argparse.Namespace) -> dict[str, Any]:
    check_available()
    dataset = load_dataset(arguments.dataset, arguments.data_dir, decoder=arguments.decoder)
    print_warnings(_PROGRAM, dataset)
    if not dataset.exclusive:
        raise ValueError(
            f"{dataset.name} has clips with several labels or none. Name clips with one label each."
        )
    tower = load_tower(arguments.weights, arguments.tagger_rate)
    path = own_path(arguments.weights)
    if path is not None and (seen := seen_clips(path, dataset)):
        raise ValueError(
            f"--weights was trained on {len(seen):,} of the {len(dataset.clips):,} clips, so the "
            "accuracy would be no test. Name other clips."
        )
    clips = load_clips(dataset, tower.front_end.sample_rate_hz, progress=True)
    data = Features.of(tower, dataset, clips, progress=True)
    by_fold: dict[int, list[float]] = {}
    for fold in dataset.folds:
        train, test = dataset.split(fold)
        rng = np.random.default_rng([arguments.seed, fold])
        draws = _draws(train, data.truth, arguments.clips_per_class, arguments.draws, rng)
        by_fold[fold] = [data.accuracy(chosen, test) for chosen in draws]
    means = {fold: float(np.mean(values)) for fold, values in by_fold.items()}
    return {
        "weights": arguments.weights,
        "dataset": dataset.name,
        "clips": len(dataset.clips),
        "features": data.values.shape[1],
        "clips_per_class": arguments.clips_per_class,
        "draws": len(next(iter(by_fold.values()))),
        "accuracy_by_fold": means,
        "accuracy": float(np.mean(list(means.values()))),
        # Of the same draw over all folds: how much depends on which clips are drawn.
        "std_over_draws": Spread.of(np.mean(list(by_fold.values()), axis=0)).std,
    }


def load_tower(source: str, tagger_rate_hz: int = 16_000) -> Tower:
    """Load an audio tower alone.

    Args:
        source: see `--weights`.
        tagger_rate_hz: sample rate of a tagger's input.

    Raises:
        CheckpointError: if it cannot be loaded.
    """
    if is_tagger(source):
        tagger = Tagger(resolve(source), tagger_rate_hz)
        # The head is not used, and a tagger's values are not normalised before training.
        return TaggerTower.from_tagger(tagger, heads.MeanPooling(1))
    if is_pretrained(source):
        return load_pretrained(source).audio_tower
    path = own_path(source)
    if path is None:
        raise CheckpointError(
            f"{source} must be pretrained, a .tflite tagger, a .keras file or a run directory"
        )
    return load_own_model(path).audio_tower


def _draws(
    train: IntArray,
    truth: IntArray,
    clips_per_class: int | None,
    number: int,
    rng: np.random.Generator,
) -> Iterator[IntArray]:
    """Yield the clips to train on: all, or so many random ones of each class."""
    if clips_per_class is None:
        yield train
        return
    for _ in range(number):
        shuffled = rng.permutation(train)
        yield np.concatenate(
            [shuffled[truth[shuffled] == label][:clips_per_class] for label in np.unique(truth)]
        )


def _lines(results: dict[str, Any]) -> list[str]:
    by_fold = results["accuracy_by_fold"]
    shares = [f"{100 * share:.1f}" for share in (*by_fold.values(), results["accuracy"])]
    trained = "all clips of the other folds"
    if results["clips_per_class"] is not None:
        trained = f"{results['clips_per_class']} clips a class, {results['draws']} draws a fold"
    lines = [
        f"{results['dataset']}: linear probe on {results['features']} features of "
        f"{results['weights']}, trained on {trained}",
        "",
        *table(("", *(f"fold {fold}" for fold in by_fold), "mean"), [("accuracy in %", *shares)]),
    ]
    if results["std_over_draws"] is not None:
        deviation = 100 * results["std_over_draws"]
        lines += ["", f"standard deviation over draws: {deviation:.1f}"]
    return lines


if __name__ == "__main__":
    sys.exit(main())
