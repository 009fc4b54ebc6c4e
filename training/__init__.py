"""Datasets, training, evaluation and their command lines."""

import os
import signal
import sys
from types import FrameType

# TensorFlow reads both when it is imported. Its log only repeats what is raised; and its oneDNN
# kernels, which it uses by default on some processors only, are faster on the others too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End a command that is still being imported; raise `KeyboardInterrupt` afterwards.

    Imports take seconds. An exception in the middle of one ends in a traceback, or is caught there.
    """
    program = sys.modules["__main__"]
    if hasattr(program, "main"):  # defined after the imports
        signal.default_int_handler(number, frame)
    name = program.__spec__.name.removesuffix(".__main__") if program.__spec__ else __name__
    os.write(2, f"{name}: interrupted\n".encode())
    os._exit(130)


# `python -m training.fit` imports this package first, when the command line still reads so.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)
