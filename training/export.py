"""Export a trained model with other labels: `python -m training.export --weights runs/a …`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from edge.config.options import CommandParser
from edge.inference.bundle import BundleError, Quantization, read_contract
from semanticac_keras import export_tflite
from semanticac_keras.checkpoints.registry import REGISTRY
from semanticac_keras.pretrained import PRETRAINED
from training.learning.class_names import ClassNames, class_name_options, nearest_names
from training.learning.options import LABEL_TEXTS
from training.learning.own_weights import own_path, run_of
from training.learning.texts import read_texts
from training.learning.trained_model import model_from, short_name
from training.runs.commands import status_of

_PROGRAM = "training.export"


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
    return status_of(_PROGRAM, lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> None:
    labels = _labels(arguments)
    texts = read_texts(arguments.label_texts, labels)
    names = ClassNames.of(arguments)
    # Of a pretrained tower, a sound that is none of the labels gets none.
    model = model_from(arguments.weights, labels, arguments.prompt, texts, names, "sigmoid")
    if model.exclusive and len(labels) < 2:
        raise ValueError(
            "this model needs at least two labels, because it chooses between them. Received: "
            f'{labels[0]}. Add other sounds of the place, such as "speech".'
        )
    contract = export_tflite(
        model,
        arguments.out,
        arguments.quantization,
        training={"weights": short_name(arguments.weights), "labels": "set without training"},
        licence=_licence(arguments.weights),
    )
    near = nearest_names(model)
    for label, text in zip(contract.labels, contract.prompts, strict=True):
        print(f"label: {label} ({text!r}{'; nearest: ' + near[label] if near else ''})")
    print(
        "largest difference of a probability from Keras, on test signals: "
        f"{contract.parity['max_score_difference']:.1e}"
    )
    print(f"device: semanticac-edge --model {arguments.out} --mic")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Write a bundle for semanticac-edge that listens for the given labels, without "
        "training. A sound gets the label whose text is nearest to it or, if the model was trained "
        "with --targets sigmoid, every label whose text is near.",
        parents=[class_name_options()],
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="SRC",
        help="pretrained, the tower that comes with the package, or the path of one; path or name "
        "of a published model, such as clap-htsat-unfused, or of a tagger; or your own: a run "
        "directory or a .keras file",
    )
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument(
        "--labels", metavar="TEXT", help='the labels, such as "dog; smoke alarm; speech"'
    )
    labels.add_argument(
        "--labels-file", type=Path, metavar="FILE", help="text file of labels, one a line"
    )
    parser.add_argument(
        "--prompt", help='text around a label, such as "a sound of {label}"; default: the model\'s'
    )
    parser.add_argument("--label-texts", **LABEL_TEXTS)
    parser.add_argument(
        "--quantization",
        choices=get_args(Quantization),
        default="float32",
        help="weights of the exported model; default: float32",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="bundle to write; replaced if it exists and the export succeeds",
    )
    return parser


def _labels(arguments: argparse.Namespace) -> list[str]:
    """Return the labels of the command line or its file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if there is no label, or the file is not UTF-8.
    """
    if arguments.labels_file is None:
        parts = arguments.labels.split(";")
    else:
        parts = arguments.labels_file.read_text(encoding="utf-8").splitlines()
    labels = [part.strip() for part in parts if part.strip()]
    if not labels:
        raise ValueError('expected labels, such as "dog; speech". Received: none.')
    return labels


def _licence(weights: str) -> str:
    """Return the licence of a registered model, or of the bundle beside one's own."""
    if weights == PRETRAINED:
        return "Apache-2.0"
    if weights in REGISTRY:
        return REGISTRY[weights].licence
    path = own_path(weights)
    if path is None:
        return "unknown"
    try:
        return read_contract(run_of(path).directory / "model.tflite").licence
    except BundleError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
