"""Audio taggers as `.tflite` files: scores and embeddings of waveforms."""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from edge.inference.bundle import TaggerContract
from edge.types import FloatArray
from semanticac_keras.audio_tower import fit_to_window
from semanticac_keras.sound_files import resample

# Smaller outputs are not considered embeddings.
_MIN_EMBEDDING_DIM = 128


class TaggerError(ValueError):
    """A tagger's file cannot be read, or its graph does not map a waveform to scores."""


class Tagger:
    """A `.tflite` tagger with a waveform input.

    The scores are the output computed last. The embedding is another output of at least 128 values
    if there is one, otherwise the input of the last dense layer before the scores. A graph with an
    open input length gets windows of one second.

    Args:
        path: the `.tflite` file, with one float32 input (samples,) or (1, samples).
        sample_rate_hz: sample rate of its training, which the file does not record.

    Attributes:
        path: path of the file.
        sample_rate_hz: sample rate of the input.
        sha256: digest of the file.
        content: flatbuffer whose outputs include the embedding.
        window_samples: samples per window.
        num_scores: number of scores, K.
        embedding_dim: size of the embedding, D; 0 if the graph has none.

    Raises:
        TaggerError: if the file cannot be read or its graph has another form.
        ValueError: if the rate is not positive.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate_hz: int = 16_000) -> None:
        if sample_rate_hz <= 0:
            raise ValueError(f"`sample_rate_hz` must be positive. Received: {sample_rate_hz}")
        self.path = Path(path)
        self.sample_rate_hz = sample_rate_hz
        try:
            self.content = self.path.read_bytes()
        except OSError as error:
            raise TaggerError(f"{path} cannot be read: {error.strerror}") from error
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self._interpreters = threading.local()
        try:
            self._read_graph()
            scores, embedding = self.hear_window(np.zeros(self.window_samples, np.float32))
        except (ValueError, RuntimeError) as error:
            raise TaggerError(
                f"{path} cannot be used as a tagger: {' '.join(str(error).split())}"
            ) from error
        self.num_scores, self.embedding_dim = scores.size, embedding.size

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    def hear(self, waveform: FloatArray, sample_rate_hz: int) -> tuple[FloatArray, FloatArray]:
        """Compute scores and embeddings of the windows of a sound. Thread-safe.

        Args:
            waveform: float32 (samples,). Repeated if shorter than a window, otherwise cut into
                windows that overlap by half; the last is aligned to the end.
            sample_rate_hz: sample rate of the waveform, which is resampled to the tagger's.

        Returns:
            Scores in [0, 1], (W, K), and embeddings (W, D) of W windows, both float32.

        Raises:
            TaggerError: if the scores are not probabilities.
        """
        waveform = resample(waveform, sample_rate_hz, self.sample_rate_hz)
        windows = fit_to_window(waveform, self.window_samples, self.window_samples // 2)
        scores, embeddings = zip(*(self.hear_window(window) for window in windows), strict=True)
        return np.stack(scores), np.stack(embeddings)

    def contract(self, hop_samples: int, scores: bool = False) -> TaggerContract:
        """Describe the tagger for a bundle.

        Args:
            hop_samples: samples between the starts of two windows.
            scores: whether the model's input is the scores, in place of the embedding.

        Raises:
            TaggerError: if the model needs the embedding, and the graph has none.
        """
        output, size = self._embedding, self.embedding_dim
        if scores:
            output, size = self._scores, self.num_scores
        if output is None:
            raise TaggerError(f"{self.path} has no embedding: no dense layer before its scores.")
        return TaggerContract(
            name=self.path.name,
            sha256=hashlib.sha256(self.content).hexdigest(),
            window_samples=self.window_samples,
            hop_samples=hop_samples,
            embedding_dim=size,
            output=output,
        )

    def _read_graph(self) -> None:
        """Find the input, the scores and the embedding, and make the embedding an output."""
        model = _load(self.content)
        self._input_shape = _waveform_shape(model.get_input_details(), self.sample_rate_hz)
        self.window_samples = self._input_shape[-1]
        wide = {
            output["index"]
            for output in model.get_output_details()
            if output["dtype"] == np.float32 and np.prod(output["shape"]) >= _MIN_EMBEDDING_DIM
        }
        self.content, self._scores, self._embedding = _with_embedding(self.content, wide)

    def hear_window(self, window: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute scores and embedding of one window. Thread-safe.

        Args:
            window: float32 (window_samples,) at the tagger's rate.

        Returns:
            Scores in [0, 1], (K,), and embedding (D,), both float32.

        Raises:
            TaggerError: if the scores are not probabilities.
        """
        model = getattr(self._interpreters, "model", None)
        if model is None:
            model = self._interpreters.model = _load(self.content, self._input_shape)
        model.set_tensor(model.get_input_details()[0]["index"], window.reshape(self._input_shape))
        model.invoke()
        scores = model.get_tensor(self._scores)
        if scores.dtype != np.float32 or scores.shape[-1:] != (scores.size,):
            raise TaggerError(
                "a tagger's scores must be one row of float32. "
                f"Received: {scores.dtype} {scores.shape}."
            )
        if not (scores.min() >= 0.0 and scores.max() <= 1.0 + 1e-4):  # also refuses NaN
            raise TaggerError(
                "a tagger's scores must be probabilities. "
                f"Received: values from {scores.min()} to {scores.max()}."
            )
        if self._embedding is None:
            return scores.reshape(-1), np.zeros(0, np.float32)
        embedding = model.get_tensor(self._embedding)
        # The input of a 1x1 convolution is a map, which the graph averages after it.
        return scores.reshape(-1), embedding.reshape(-1, embedding.shape[-1]).mean(axis=0)


def _load(content: bytes, input_shape: tuple[int, ...] | None = None) -> Any:
    """Create a single-threaded interpreter; allocate its tensors if the input's shape is given."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(model_content=content, num_threads=1)
    if input_shape is not None:
        model.resize_tensor_input(model.get_input_details()[0]["index"], input_shape)
        model.allocate_tensors()
    return model


def _waveform_shape(inputs: list[dict[str, Any]], sample_rate_hz: int) -> tuple[int, ...]:
    """Return the shape of the only input; an open length becomes one second."""
    if len(inputs) == 1 and inputs[0]["dtype"] == np.float32:
        shape = tuple(int(size) for size in inputs[0]["shape"])
        length = int(inputs[0]["shape_signature"][-1]) if shape else 0
        if len(shape) in (1, 2) and shape[:-1] in ((), (1,)) and length:
            return (*shape[:-1], sample_rate_hz if length < 0 else length)
    received = ", ".join(
        f"{np.dtype(i['dtype']).name} {tuple(map(int, i['shape_signature']))}" for i in inputs
    )
    raise TaggerError(
        "a tagger must have one float32 input (samples,) or (1, samples), a waveform. "
        f"Received: {received or 'no input'}."
    )


def _with_embedding(content: bytes, wide: set[int]) -> tuple[bytes, int, int | None]:
    """Make the embedding an output, which the CPU delegate leaves readable.

    Args:
        content: the flatbuffer.
        wide: tensors of the outputs large enough for an embedding.

    Returns:
        The flatbuffer, and the tensors of the scores and of the embedding, if there is one.

    Raises:
        TaggerError: if the graph computes no output.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    operators = graph.operators[::-1]  # the last to run first
    outputs = [int(i) for i in graph.outputs]
    computed = [int(i) for operator in operators for i in operator.outputs if i in outputs]
    if not computed:
        raise TaggerError("its graph computes nothing")
    scores, *others = computed
    for i in others:
        if i in wide:
            return content, scores, i
    needed = {scores}
    for operator in operators:
        if needed.isdisjoint(operator.outputs):
            continue
        needed.update(operator.inputs)
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        dense = kind == schema.BuiltinOperator.FULLY_CONNECTED
        if kind == schema.BuiltinOperator.CONV_2D:
            dense = list(graph.tensors[operator.inputs[1]].shape[1:3]) == [1, 1]
        if dense:
            embedding = int(operator.inputs[0])
            if graph.tensors[embedding].type != schema.TensorType.FLOAT32:
                break
            graph.outputs = sorted({*outputs, embedding})
            builder = flatbuffers.Builder(len(content))
            builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
            return bytes(builder.Output()), scores, embedding
    return content, scores, None
