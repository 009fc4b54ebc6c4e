"""The installed LiteRT runtime: `ai-edge-litert`, or `tflite-runtime` on older systems."""

import importlib
import importlib.metadata
from typing import Any

import numpy as np

from edge.inference.bundle import BundleError

# Distributions, in the order of preference, with the module of their interpreter.
_RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}


def load_graph(content: bytes, num_threads: int) -> tuple[str, Any]:
    """Load a graph in the installed runtime.

    Args:
        content: the flatbuffer.
        num_threads: CPU threads of the graph.

    Returns:
        Name and version of the runtime, and its interpreter with allocated tensors.

    Raises:
        BundleError: if the runtime cannot load the graph.
        RuntimeError: if no runtime is installed, or it does not work with this numpy.
    """
    runtime, interpreter = _runtime()
    try:
        model = interpreter(model_content=content, num_threads=num_threads)
        model.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{runtime} cannot load the graph: {reason}") from error
    except SystemError as error:  # tflite-runtime needs numpy 1, but can be imported with 2
        raise RuntimeError(
            f"{runtime} does not work with numpy {np.__version__}: pip install 'numpy<2'"
        ) from error
    return runtime, model


def _runtime() -> tuple[str, Any]:
    """Find the first runtime that can be imported: name and version, and `Interpreter` class."""
    broken = ""
    for distribution, module in _RUNTIMES.items():
        try:
            interpreter = importlib.import_module(module).Interpreter
        except ImportError as error:
            if error.name != module.partition(".")[0]:
                broken = f" {distribution} cannot be imported: {' '.join(str(error).split())}."
            continue
        try:
            return f"{distribution} {importlib.metadata.version(distribution)}", interpreter
        except importlib.metadata.PackageNotFoundError:
            return distribution, interpreter
    raise RuntimeError(
        f"No LiteRT runtime is installed.{broken} Install one: pip install ai-edge-litert"
    )
