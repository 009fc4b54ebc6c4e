"""The command that tells about the model that comes with the package."""

import argparse
import sys

from edge.inference.packaged import packaged_model

DESCRIPTION = (
    "Print the card of the model that comes with the package, which listens where no --model is "
    "given: what it hears, how good it is, what it was made of and under which licence."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command; `parser` should have `DESCRIPTION`."""
    parser.add_argument(
        "--path", action="store_true", help="print where the bundle lies in place of the card"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the card, or the path.

    Args:
        arguments: as `add_arguments`' parser read them.

    Returns:
        Exit status: 0.

    Raises:
        OSError: if the card cannot be read.
        ValueError: if no model came with the package.
    """
    model = packaged_model()
    if model is None:
        raise ValueError(
            "no model came with this installation. Make one: python -m training.reproduce "
            "esc10-small --install"
        )
    if arguments.path:
        print(model.bundle)
    else:
        sys.stdout.write(model.card.read_text(encoding="utf-8"))
    return 0
