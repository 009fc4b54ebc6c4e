"""`semanticac-edge model`: the card of the packaged model."""

import argparse
import sys

from edge.inference.packaged import packaged_model

DESCRIPTION = (
    "Print the card of the packaged model, the default of --model: its labels, its accuracy, its "
    "training data and its licence."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser whose description is `DESCRIPTION`."""
    parser.add_argument(
        "--path", action="store_true", help="print the path of the bundle instead of the card"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the card, or the path.

    Args:
        arguments: namespace of the parser that `add_arguments` extended.

    Returns:
        Exit status: 0.

    Raises:
        OSError: if the card cannot be read.
        ValueError: if the installation has no packaged model.
    """
    model = packaged_model()
    if model is None:
        raise ValueError(
            "this installation has no packaged model. Make one: python -m training.reproduce "
            "esc10-small --install"
        )
    if arguments.path:
        print(model.bundle)
    else:
        sys.stdout.write(model.card.read_text(encoding="utf-8"))
    return 0
