"""Reproduce and compare a packaged model: `python -m training.reproduce esc10-small`."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.config.options import CommandParser
from edge.files import replacing
from edge.inference import packaged
from edge.inference.bundle import read_contract
from edge.inference.packaged import PackagedModel
from training.datasets import AudioDataset, load_dataset
from training.release import comparing, measure
from training.release.accounting import account, write_files
from training.release.making import PROGRAM, make_bundle
from training.release.shipment import SHIPMENTS, Shipment
from training.runs.commands import status_of
from training.runs.lock import locked
from training.runs.markdown import table
from training.runs.run import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program name; `sys.argv[1:]` by default.

    Returns:
        Exit status: 0; 1 after an error or if the model differs from the packaged one by more than
        the tolerances; 130 after an interrupt.

    Raises:
        SystemExit: with status 2 for wrong arguments, with 0 after `--help`.
    """
    arguments = _parser().parse_args(argv)
    return status_of(PROGRAM, lambda: _reproduce(arguments), "run the same command to resume")


def _reproduce(arguments: argparse.Namespace) -> int:
    shipment = SHIPMENTS[arguments.name]
    data_dir: Path | None = arguments.data_dir
    run = Run(arguments.out or Path("runs") / f"reproduce-{shipment.name}")
    dataset = load_dataset(shipment.dataset, data_dir)
    with locked(run.directory):
        figures = make_bundle(shipment, dataset, run)
    files = PackagedModel.at(run.directory, shipment.name)
    figures |= account(shipment, dataset, files.bundle, figures, data_dir, arguments.crossval)
    write_files(shipment, dataset, figures, files)
    print(f"card: {files.card}")
    fits = _compare(shipment, dataset, files)
    if arguments.install:
        _install(files)
        fits = True
    return 0 if fits else 1


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=f"python -m {PROGRAM}",
        description="Train a packaged model on all of its dataset, choose its thresholds, write "
        "its card, and compare it with the packaged one. An interrupted run resumes.",
    )
    parser.add_argument("name", choices=sorted(SHIPMENTS))
    parser.add_argument(
        "--data-dir", type=Path, help="directory of the dataset; downloaded by default"
    )
    parser.add_argument("--out", type=Path, help="directory; default: runs/reproduce-NAME")
    parser.add_argument(
        "--crossval",
        type=Path,
        metavar="DIR",
        help="cross-validation of the same recipe, for the card: training.crossval --keep-bundles",
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="replace the packaged model, even if the comparison fails",
    )
    return parser


def _compare(shipment: Shipment, dataset: AudioDataset, files: PackagedModel) -> bool:
    """Print the comparison with the packaged model; return whether they agree."""
    shipped = packaged.packaged_model()
    if shipped is None or shipped.bundle.name != files.bundle.name:
        print("no comparison: the package has no such model")
        return True
    scores = None
    if read_contract(shipped.bundle).labels == read_contract(files.bundle).labels:
        rate_hz = read_contract(files.bundle).front_end.sample_rate_hz
        before, now = (
            measure.scores_of(path, dataset, rate_hz) for path in (shipped.bundle, files.bundle)
        )
        truth = dataset.truth(range(len(dataset.clips)))
        scores = comparing.Scores(before, now, truth)
    old, new = (json.loads(each.figures.read_text()) for each in (shipped, files))
    rows = list(comparing.compare(old, new, scores, shipment.most_bytes))
    cells = [(*row[:4], "yes" if row.fits else "NO") for row in rows]
    print("\n".join(table(("what", "shipped", "made", "tolerance", "agrees"), cells)))
    return all(row.fits for row in rows)


def _install(files: PackagedModel) -> None:
    """Copy the model and its files into the package."""
    targets = PackagedModel.at(packaged.DIRECTORY, files.bundle.stem)
    for source, target in zip(files, targets, strict=True):
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    print(f"installed: {targets.bundle}")


if __name__ == "__main__":
    sys.exit(main())
