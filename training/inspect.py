"""Inspect recordings before training: `python -m training.inspect recordings/`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.config.options import CommandParser
from training.datasets import DATASETS, load_dataset
from training.inspection.checks import sound_warnings, warnings_for
from training.inspection.fingerprints import similar_pairs
from training.inspection.picture import plot_inspection
from training.inspection.sounds import measure
from training.inspection.tables import summary
from training.runs.commands import status_of

_PROGRAM = "training.inspect"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, with or without warnings; 1 if the data cannot be used; 130 after an
        interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    arguments = _parse(argv)
    return status_of(_PROGRAM, lambda: _inspect(arguments))


def _inspect(arguments: argparse.Namespace) -> None:
    dataset = load_dataset(arguments.dataset, arguments.data_dir)
    sounds = measure(dataset, progress=True)
    pairs = similar_pairs([sound.fingerprint for sound in sounds], progress=True)
    print(summary(dataset, sounds))
    for line in (*warnings_for(dataset), *sound_warnings(dataset, sounds, pairs)):
        print(f"warning: {line}")
    if arguments.picture is not None:
        plot_inspection(dataset, sounds, arguments.picture)
        print(f"picture: {arguments.picture}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; a positional DATA is a `folder` dataset."""
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Print the classes of a dataset, and warn of what would make a model or its "
        "accuracy misleading.",
    )
    parser.add_argument(
        "data", type=Path, nargs="?", metavar="DATA", help="your recordings: a directory or a CSV"
    )
    parser.add_argument("--dataset", choices=sorted(DATASETS), help="inspect this one instead")
    parser.add_argument("--data-dir", type=Path, help="that dataset's directory")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also write a PNG file")
    arguments = parser.parse_args(argv)
    if (arguments.data is None) == (arguments.dataset is None):
        parser.error("name either DATA or --dataset")
    if arguments.dataset is None:
        if arguments.data_dir is not None:
            parser.error("--data-dir belongs to --dataset")
        arguments.dataset, arguments.data_dir = "folder", arguments.data
    return arguments


if __name__ == "__main__":
    sys.exit(main())
