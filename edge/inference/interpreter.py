"""A bundle's graph in LiteRT, checked against its contract before it runs."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge.inference.bundle import (
    BundleContract,
    BundleError,
    Probe,
    read_contract,
    read_tagger,
)
from edge.inference.probe import probe_input
from edge.inference.runtime import load_graph
from edge.inference.tagger import TaggerGraph
from edge.types import FloatArray

_SIGNATURE = "serving_default"
_INPUT = "inputs"
# Largest difference of a cosine from its value at export. Kernels that sum in another order
# differed by 2e-7; integer kernels, which round activations differently, by 1.2e-3. The limits
# leave room for other models and processors, and for half-precision arithmetic. A kernel that
# misreads its weights is off by tenths.
_COSINE_LIMITS = {"float32": 1e-3, "float16": 1e-2, "dynamic_int8": 2e-2}


class Prediction(NamedTuple):
    """The model's outputs for one window.

    Args:
        scores: softmax of the scaled cosines or, if the contract's scores are independent, the
            sigmoid of each, float32 (labels,).
        cosines: cosine similarity to each label's text, float32 (labels,).
        embedding: the window's audio embedding, a unit vector, float32 (embedding_dim,).
    """

    scores: FloatArray
    cosines: FloatArray
    embedding: FloatArray


class Interpreter:
    """Runs a bundle on the CPU. The file is copied; later changes to it have no effect.

    Before it is used, the model must reproduce its output for the probe at export.

    Args:
        path: the `.tflite` bundle.
        num_threads: CPU threads of the graph, at least 1.

    Attributes:
        contract: the bundle's contract.
        tagger: graph of the tagger that computes the model's input, if there is one.
        runtime: name and version of the LiteRT runtime.

    Raises:
        BundleError: if the bundle is missing or damaged, its graph breaks its contract, or the
            installed runtime cannot load it or computes it wrongly.
        RuntimeError: if no LiteRT runtime is installed, or it does not work with this numpy.
        ValueError: if `num_threads` is below 1.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1) -> None:
        if num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1. Received: {num_threads}.")
        self.contract: BundleContract = read_contract(path)
        try:
            self.tagger = None
            if self.contract.tagger:
                content = read_tagger(path, self.contract.tagger)
                self.tagger = TaggerGraph(content, self.contract.tagger, num_threads)
            self._graph = _Graph(self.contract, Path(path).read_bytes(), num_threads)
            _check_probe(self._graph, self.contract, self.tagger)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error
        self.runtime = self._graph.runtime

    def run(self, inputs: FloatArray) -> Prediction:
        """Classify one window.

        Args:
            inputs: float32, without the batch axis: log-mel decibels (num_frames, num_mels),
                samples (window_samples,) or embeddings (tagger windows, D), according to
                `contract.inputs`.

        Returns:
            Copies of the graph's outputs.

        Raises:
            RuntimeError: if the graph fails, or its scores are NaN or infinite.
            ValueError: if `inputs` has the wrong shape or dtype.
        """
        expected = self.contract.input_shape[1:]
        if inputs.shape != expected or inputs.dtype != np.float32:
            raise ValueError(
                f"`inputs` must be float32 {expected}. Received: {inputs.dtype} {inputs.shape}."
            )
        prediction = self._graph.run(inputs)
        if not np.isfinite(prediction.scores).all():
            raise RuntimeError("The model returned NaN or infinite scores. Export it again.")
        return prediction


def measure_probe(model: bytes, contract: BundleContract, tagger: bytes | None = None) -> Probe:
    """Measure a graph's output for the probe input, for its contract.

    Args:
        model: the flatbuffer.
        contract: its contract; `contract.probe` is ignored.
        tagger: flatbuffer of `contract.tagger`, if there is one.

    Raises:
        BundleError: if the graph cannot be loaded, or breaks the contract.
        RuntimeError: if no LiteRT runtime works, or the graph fails.
    """
    graph = _Graph(contract, model, num_threads=1)
    tagger_graph = None
    if contract.tagger and tagger is not None:
        tagger_graph = TaggerGraph(tagger, contract.tagger)
    prediction = graph.run(probe_input(contract, tagger_graph))
    return Probe(
        scores=tuple(round(float(score), 7) for score in prediction.scores),
        cosines=tuple(round(float(cosine), 7) for cosine in prediction.cosines),
    )


class _Graph:
    """A graph in the installed runtime.

    Args:
        contract: the contract that its tensors must match.
        content: the flatbuffer; what follows it is ignored.
        num_threads: CPU threads of the graph.
    """

    def __init__(self, contract: BundleContract, content: bytes, num_threads: int) -> None:
        self.runtime, self._model = load_graph(content, num_threads)
        self._input, self._outputs = _tensors(self._model, contract)

    def run(self, inputs: FloatArray) -> Prediction:
        self._model.set_tensor(self._input, inputs[np.newaxis])
        self._model.invoke()
        return Prediction(*(self._model.get_tensor(index)[0] for index in self._outputs))


def _check_probe(graph: _Graph, contract: BundleContract, tagger: TaggerGraph | None) -> None:
    """Refuse a graph that does not reproduce its probe output at export."""
    assert contract.probe is not None, "a contract that was read has a probe"
    try:
        output = graph.run(probe_input(contract, tagger))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{graph.runtime} cannot run the graph: {reason}") from error
    cosines = float(np.abs(output.cosines - np.array(contract.probe.cosines)).max())
    scores = float(np.abs(output.scores - np.array(contract.probe.scores)).max())
    cosine_limit = _COSINE_LIMITS[contract.quantization]
    # The largest change of a softmax or sigmoid output under such differences.
    steepest = 1 / 2 if contract.exclusive else 1 / 4
    score_limit = cosine_limit * contract.logit_scale * steepest
    # `not <=` so that NaN fails too.
    if not cosines <= cosine_limit or not scores <= score_limit:
        raise BundleError(
            f"{graph.runtime} computes the {contract.quantization} model wrongly: for the bundle's "
            f"probe, cosines differ by {cosines:.2g} from those at export (limit "
            f"{cosine_limit:g}), scores by {scores:.2g} (limit {score_limit:.2g}). Use another "
            "runtime, or export with another quantization."
        )


def _tensors(model: Any, contract: BundleContract) -> tuple[int, list[int]]:
    """Check all tensors against the contract; return the indices of the input and the outputs."""
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
    # Keep no reference to the runner: `invoke` counts references to the interpreter and refuses.
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
