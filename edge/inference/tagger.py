"""A tagger's graph in the installed runtime: one window of samples to one embedding."""

import numpy as np

from edge.inference.bundle import BundleError, TaggerContract
from edge.inference.runtime import load_graph
from edge.types import FloatArray


class TaggerGraph:
    """Computes the embeddings of tagger windows.

    Args:
        content: the tagger's flatbuffer.
        contract: its contract.
        num_threads: CPU threads of the graph.

    Raises:
        BundleError: if the runtime cannot load the graph, or its tensors do not match the
            contract.
        RuntimeError: if no LiteRT runtime works.
    """

    def __init__(self, content: bytes, contract: TaggerContract, num_threads: int = 1) -> None:
        self.contract = contract
        self.runtime, self._model = load_graph(content, num_threads)
        [details] = self._model.get_input_details()
        shape = (*(1 for _ in details["shape"][:-1]), contract.window_samples)
        if tuple(details["shape"]) != shape:  # an open length, which has been fixed at export
            self._model.resize_tensor_input(details["index"], shape)
            self._model.allocate_tensors()
        self._input, self._shape = details["index"], shape
        embedding = self.embed(np.zeros(contract.window_samples, np.float32))
        if embedding.shape != (contract.embedding_dim,):
            raise BundleError(
                f"the tagger's embedding must have {contract.embedding_dim} values. "
                f"Received: {embedding.size}. Export the bundle again."
            )

    def embed(self, window: FloatArray) -> FloatArray:
        """Compute the embedding of one window.

        Args:
            window: float32 (window_samples,).

        Returns:
            float32 (D,).

        Raises:
            RuntimeError: if the graph fails.
        """
        self._model.set_tensor(self._input, window.reshape(self._shape))
        self._model.invoke()
        output: FloatArray = self._model.get_tensor(self.contract.output)
        embedding: FloatArray = output.reshape(-1, output.shape[-1]).mean(axis=0)
        return embedding

    def embed_all(self, samples: FloatArray) -> FloatArray:
        """Compute the embeddings of all complete windows of a sound.

        Args:
            samples: float32 (samples,).

        Returns:
            float32 (windows, D).
        """
        size, hop = self.contract.window_samples, self.contract.hop_samples
        starts = [i * hop for i in range(self.contract.windows_in(samples.size))]
        rows = [self.embed(samples[start : start + size]) for start in starts]
        return np.stack(rows) if rows else np.zeros((0, self.contract.embedding_dim), np.float32)
