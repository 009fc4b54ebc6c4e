"""A bundle's graph in LiteRT, checked against its contract before it runs."""

import importlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge.inference.bundle import BundleContract, BundleError, Probe, read_contract
from edge.inference.probe import probe_input
from edge.types import FloatArray

_SIGNATURE = "serving_default"
_INPUT = "inputs"
# Distributions, in the order of preference, with the module of their interpreter.
_RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}

# How far a cosine may be from what it was at export. Kernels that sum in another order were seen to
# differ by 2e-7, integer ones, which round activations in ways of their own, by 1.2e-3; the limits
# leave room for other models and processors, and for arithmetic in half precision. A kernel that
# misreads its weights is off by tenths.
_COSINE_LIMITS = {"float32": 1e-3, "float16": 1e-2, "dynamic_int8": 2e-2}


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
    """Runs a bundle on the CPU. The file is copied: what happens to it afterwards does not matter.

    Before it is used, the model must say of a known sound what it said where it was exported.

    Args:
        path: the `.tflite` bundle.
        num_threads: CPU threads of the graph, at least 1.

    Attributes:
        contract: what the bundle says about its model.
        runtime: name and version of what runs it.

    Raises:
        BundleError: if the bundle is missing or damaged, its graph breaks its contract, or the
            runtime here cannot load it or computes it wrongly.
        RuntimeError: if no LiteRT runtime is installed, or not with the numpy it needs.
        ValueError: if `num_threads` is below 1.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1) -> None:
        if num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1. Received: {num_threads}.")
        self.contract: BundleContract = read_contract(path)
        try:
            self._graph = _Graph(
                self.contract, model_content=Path(path).read_bytes(), num_threads=num_threads
            )
            _check_probe(self._graph, self.contract)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error
        self.runtime = self._graph.runtime

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
        prediction = self._graph.run(inputs)
        if not np.isfinite(prediction.scores).all():
            raise RuntimeError("The model answered with NaN or infinite scores. Export it again.")
        return prediction


def measure_probe(model: bytes, contract: BundleContract) -> Probe:
    """What a graph says of the known sound here, for its contract.

    Args:
        model: the flatbuffer.
        contract: fits it; its own `probe` is not used.

    Raises:
        BundleError: if the graph cannot be loaded, or breaks the contract.
        RuntimeError: if no LiteRT runtime works, or the graph fails.
    """
    graph = _Graph(contract, model_content=model, num_threads=1)
    prediction = graph.run(probe_input(contract))
    return Probe(
        scores=tuple(round(float(score), 7) for score in prediction.scores),
        cosines=tuple(round(float(cosine), 7) for cosine in prediction.cosines),
    )


class _Graph:
    """A graph in whichever runtime is installed.

    Args:
        contract: what its tensors must fit.
        options: the runtime's: where the model is, and threads.
    """

    def __init__(self, contract: BundleContract, **options: Any) -> None:
        self.runtime, interpreter = _runtime()
        try:
            self._model = interpreter(**options)
            self._model.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise BundleError(f"{self.runtime} cannot load the graph: {reason}") from error
        except SystemError as error:  # tflite-runtime is built for numpy 1, and imports with 2
            raise RuntimeError(
                f"{self.runtime} does not work with numpy {np.__version__}: pip install 'numpy<2'"
            ) from error
        self._input, self._outputs = _tensors(self._model, contract)

    def run(self, inputs: FloatArray) -> Prediction:
        self._model.set_tensor(self._input, inputs[np.newaxis])
        self._model.invoke()
        return Prediction(*(self._model.get_tensor(index)[0] for index in self._outputs))


def _runtime() -> tuple[str, Any]:
    """Name and version of the first runtime that can be imported, and its `Interpreter` class."""
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


def _check_probe(graph: _Graph, contract: BundleContract) -> None:
    """Refuse a graph that does not say here what it said at export."""
    assert contract.probe is not None, "a contract that was read has a probe"
    try:
        said = graph.run(probe_input(contract))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{graph.runtime} cannot run the graph: {reason}") from error
    cosines = float(np.abs(said.cosines - np.array(contract.probe.cosines)).max())
    scores = float(np.abs(said.scores - np.array(contract.probe.scores)).max())
    cosine_limit = _COSINE_LIMITS[contract.quantization]
    # The most that a softmax makes of such differences.
    score_limit = cosine_limit * contract.logit_scale / 2
    # `not <=` so that NaN fails as well.
    if not cosines <= cosine_limit or not scores <= score_limit:
        raise BundleError(
            f"{graph.runtime} computes the {contract.quantization} model wrongly: for the bundle's "
            f"probe cosines differ by {cosines:.2g} from those at export (limit {cosine_limit:g}), "
            f"scores by {scores:.2g} (limit {score_limit:.2g}). Use another runtime, or export "
            "with another quantization."
        )


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
