"""A bundle's graph in LiteRT, checked against its contract before it runs."""

import importlib
import os
from typing import Any, NamedTuple

import numpy as np

from edge.bundle import BundleContract, BundleError, read_contract
from edge.frontend import FloatArray

_SIGNATURE = "serving_default"
_INPUT = "inputs"
_RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


class Prediction(NamedTuple):
    """What the model says about one window.

    Args:
        scores: the scaled softmax of the cosines, float32 (labels,).
        cosines: cosine similarity to each label's text, float32 (labels,).
        embedding: the window's audio embedding, a unit vector, float32 (embedding_dim,).
    """

    scores: FloatArray
    cosines: FloatArray
    embedding: FloatArray


class Interpreter:
    """Runs a bundle on the CPU. The file is mapped, not copied: keep it in place while it runs.

    Args:
        path: the `.tflite` bundle.
        num_threads: CPU threads of the graph, at least 1.

    Attributes:
        contract: what the bundle says about its model.

    Raises:
        BundleError: if the bundle is missing or damaged, or its graph breaks its contract.
        RuntimeError: if no LiteRT runtime is installed.
        ValueError: if `num_threads` is below 1.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1) -> None:
        if num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1. Received: {num_threads}.")
        self.contract: BundleContract = read_contract(path)
        load = _litert_interpreter()
        try:
            self._model = load(model_path=os.fspath(path), num_threads=num_threads)
            self._model.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise BundleError(f"{path} holds a graph that LiteRT cannot load: {reason}") from error
        try:
            self._input, self._outputs = _tensors(self._model, self.contract)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error

    def run(self, inputs: FloatArray) -> Prediction:
        """Classify one window.

        Args:
            inputs: float32, without the batch axis: log-mel decibels (num_frames, num_mels) or
                samples (window_samples,), as `contract.inputs` says.

        Returns:
            Copies of the graph's outputs.

        Raises:
            RuntimeError: if the graph fails, or answers with NaN or infinity.
            ValueError: if `inputs` has another shape or dtype.
        """
        expected = self.contract.input_shape[1:]
        if inputs.shape != expected or inputs.dtype != np.float32:
            raise ValueError(
                f"`inputs` must be float32 {expected}. Received: {inputs.dtype} {inputs.shape}."
            )
        self._model.set_tensor(self._input, inputs[np.newaxis])
        self._model.invoke()
        prediction = Prediction(*(self._model.get_tensor(index)[0] for index in self._outputs))
        if not np.isfinite(prediction.scores).all():
            raise RuntimeError("The model answered with NaN or infinite scores. Export it again.")
        return prediction


def _litert_interpreter() -> Any:
    """The `Interpreter` class of the first runtime that is installed."""
    for name in _RUNTIMES:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise RuntimeError("No LiteRT runtime is installed. Install one: pip install ai-edge-litert")


def _tensors(model: Any, contract: BundleContract) -> tuple[int, list[int]]:
    """Index of the input, and those of a `Prediction`'s parts, once all match the contract."""
    signatures = model.get_signature_list()
    signature = signatures.get(_SIGNATURE, {})
    if (
        len(signatures) != 1
        or signature.get("inputs") != [_INPUT]
        or sorted(signature.get("outputs", [])) != sorted(Prediction._fields)
    ):
        raise BundleError(
            f"the graph must have one signature `{_SIGNATURE}` from `{_INPUT}` to "
            f"{', '.join(Prediction._fields)}. Received: {signatures or 'no signature'}. "
            "Re-export the bundle."
        )
    # A runner that stays alive makes `invoke` refuse: it counts references to the interpreter.
    runner = model.get_signature_runner(_SIGNATURE)
    details = {**runner.get_input_details(), **runner.get_output_details()}
    shapes = {name: tuple(int(n) for n in detail["shape"]) for name, detail in details.items()}
    for name, detail in details.items():
        if np.dtype(detail["dtype"]) != np.float32:
            raise BundleError(
                f"`{name}` must be float32. Received: {np.dtype(detail['dtype'])}. "
                "Re-export the bundle."
            )
    if shapes[_INPUT] != contract.input_shape:
        raise BundleError(
            f"`{_INPUT}` must have the contract's shape {contract.input_shape}. "
            f"Received: {shapes[_INPUT]}. Re-export the bundle."
        )
    for name, field, size, unit in (
        ("scores", "labels", len(contract.labels), " labels"),
        ("cosines", "labels", len(contract.labels), " labels"),
        ("embedding", "embedding_dim", contract.embedding_dim, ""),
    ):
        if shapes[name] != (1, size):
            raise BundleError(
                f"`{field}` must match the bundle's {shapes[name][-1]} outputs. "
                f"Received: {size}{unit}. Re-export the bundle."
            )
    return details[_INPUT]["index"], [details[name]["index"] for name in Prediction._fields]
