"""Tagger tower: a frozen tagger's embeddings or scores, and a head on them."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import keras
import numpy as np
from keras import ops

from edge.files import replacing
from edge.inference.bundle import TaggerContract
from edge.inference.frontend import FrontEnd
from edge.inference.tagger import TaggerGraph
from edge.types import FloatArray
from semanticac_keras.audio_tower import Tower, check_float
from semanticac_keras.tagger import Tagger

WINDOW_SECONDS = 5.0
_HOP_UNIT_SECONDS = 0.5
_ASSET = "tagger.tflite"


@keras.saving.register_keras_serializable("semanticac_keras")
class EmbeddingMap(keras.Model):
    """Embeddings as a token map with one column.

    Args:
        num_windows: tagger windows in a window of the model, T.
        embedding_dim: size D of an embedding.
        dropout: share of an embedding's values that are dropped while training, in [0, 1).
        normalize: whether to scale each of the D values by its mean and variance in training.

    Call arguments:
        embeddings: float32 (B, T, D).

    Returns:
        (B, T, 1, D).

    Raises:
        ValueError: if the embeddings have another shape.
    """

    def __init__(
        self,
        num_windows: int,
        embedding_dim: int,
        dropout: float = 0.0,
        normalize: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_windows = num_windows
        self.output_dim = embedding_dim
        self.output_grid = (num_windows, 1)
        self.dropout = dropout
        self.normalize = normalize
        self.norm = None
        if normalize:
            # The values of some taggers differ in scale by orders of magnitude.
            self.norm = keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, dtype="float32", name="norm"
            )
            self.norm.build((None, num_windows, embedding_dim))
        self.drop = keras.layers.Dropout(dropout, dtype="float32")
        self.built = True

    def build(self, input_shape):
        self.built = True

    def call(self, embeddings, training=False):
        shape = (self.num_windows, self.output_dim)
        if tuple(embeddings.shape[1:]) != shape:
            raise ValueError(
                f"embeddings must have shape (B, {shape[0]}, {shape[1]}). "
                f"Received: {tuple(embeddings.shape)}"
            )
        x = embeddings if self.norm is None else self.norm(embeddings, training=training)
        x = self.drop(x, training=training)
        return ops.cast(ops.expand_dims(x, 2), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.output_grid, self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "num_windows": self.num_windows,
            "embedding_dim": self.output_dim,
            "dropout": self.dropout,
            "normalize": self.normalize,
        }


@keras.saving.register_keras_serializable("semanticac_keras")
class TaggerTower(Tower):
    """A frozen tagger, which runs on the host, and a head on its embeddings.

    `SemanticAC`'s methods take sound, as with an `AudioTower`. The Keras layers take embeddings,
    or the tagger's scores in their place.
    Each window of the model holds T whole windows of the tagger. A saved model contains the tagger.

    Args:
        contract: the tagger's contract, or its plain values.
        front_end: sample rate and window length; the log-mels serve displays alone.
        encoder: the `EmbeddingMap`.
        head: layer from a token map (B, T, 1, D) to a vector, such as `CSCM`.
        content: the tagger's flatbuffer; a saved model restores it by itself.

    Call arguments:
        inputs: float32 embeddings (B, T, D), see `inputs_of`.

    Returns:
        float32 unit vectors, (B, C).

    Raises:
        ValueError: if the input has another form.
    """

    takes_waveforms = False

    def __init__(
        self,
        contract,
        front_end,
        encoder: EmbeddingMap,
        head: keras.Layer,
        content: bytes | None = None,
        **kwargs,
    ):
        super().__init__(front_end, encoder, head, **kwargs)
        self.contract = (
            contract if isinstance(contract, TaggerContract) else TaggerContract(**contract)
        )
        self._content = content
        self._graphs = threading.local()

    @classmethod
    def from_tagger(
        cls,
        tagger: Tagger,
        head: keras.Layer,
        window_seconds: float = WINDOW_SECONDS,
        dropout: float = 0.0,
        scores: bool = False,
        **kwargs,
    ) -> Self:
        """Create a tower from a tagger.

        The tagger's windows start half a window apart, rounded to half seconds, so that the
        listener can classify at whole seconds.

        Args:
            tagger: the tagger.
            head: layer from a token map (B, T, 1, D) to a vector.
            window_seconds: length of the model's window; a tagger window if that is longer.
            dropout: see `EmbeddingMap`.
            scores: whether the head gets the tagger's scores, as they are, in place of its
                normalised embeddings; D is then the number of scores.
            **kwargs: as in Keras.

        Raises:
            TaggerError: if the head gets embeddings, and the tagger has none.
        """
        rate_hz = tagger.sample_rate_hz
        units = round(tagger.window_samples / 2 / rate_hz / _HOP_UNIT_SECONDS)
        contract = tagger.contract(round(max(1, units) * _HOP_UNIT_SECONDS * rate_hz), scores)
        front_end = _front_end(rate_hz, max(window_seconds, tagger.window_samples / rate_hz))
        num_windows = contract.windows_in(front_end.window_samples)
        encoder = EmbeddingMap(
            num_windows,
            contract.embedding_dim,
            dropout,
            normalize=not scores,
            dtype="float32" if scores else None,  # half precision has few values near 1
            name="embedding_map",
        )
        return cls(contract, front_end, encoder, head, tagger.content, **kwargs)

    @property
    def content(self) -> bytes:
        """The tagger's flatbuffer.

        Raises:
            ValueError: if the tower was created from a configuration alone.
        """
        if self._content is None:
            raise ValueError("the tower has no tagger: load a saved model, or pass `content`")
        return self._content

    def token_map(self, inputs, training=False):
        """Encode embeddings (B, T, D) to a token map (B, T, 1, D)."""
        check_float(inputs)
        return self.encoder(inputs, training=training)

    def inputs_of(self, windows: FloatArray) -> FloatArray:
        """Compute the embeddings of windows on all cores.

        Args:
            windows: float32 (n, window_samples).

        Returns:
            float32 (n, T, D).
        """
        shape = (len(windows), *self.encoder.output_grid[:1], self.encoder.output_dim)
        embeddings = np.empty(shape, np.float32)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for i, rows in enumerate(pool.map(self._embed, windows)):
                embeddings[i] = rows
        return embeddings

    def _embed(self, window: FloatArray) -> FloatArray:
        """Compute the embeddings (T, D) of a window with this thread's graph."""
        graph = getattr(self._graphs, "graph", None)
        if graph is None:
            graph = self._graphs.graph = TaggerGraph(self.content, self.contract)
        return graph.embed_all(window)

    def with_parts(self, encoder: keras.Model, head: keras.Layer) -> Self:
        """Create a tower with the same tagger, and another encoder and head."""
        return type(self)(self.contract, self.front_end, encoder, head, self._content)

    def get_config(self):
        return {**super().get_config(), "contract": vars(self.contract)}

    def save_assets(self, directory: str) -> None:
        """Write the tagger into a saved model; Keras calls it."""
        with replacing(Path(directory) / _ASSET) as temporary:
            temporary.write_bytes(self.content)

    def load_assets(self, directory: str | None) -> None:
        """Read the tagger of a saved model; Keras calls it.

        Raises:
            ValueError: if it is missing, or not the one that the tower was saved with.
        """
        content = (Path(directory) / _ASSET).read_bytes() if directory else b""
        if hashlib.sha256(content).hexdigest() != self.contract.sha256:
            raise ValueError(f"the saved tagger {self.contract.name} does not match its checksum")
        self._content = content


def _front_end(sample_rate_hz: int, window_seconds: float) -> FrontEnd:
    """Log-mels of 100 frames a second up to 14 kHz, or the highest frequency there is."""
    hop_length = sample_rate_hz // 100
    return FrontEnd(
        sample_rate_hz=sample_rate_hz,
        n_fft=1 << (2 * hop_length + 1).bit_length(),
        hop_length=hop_length,
        fmax_hz=min(14_000.0, sample_rate_hz / 2),
        window_seconds=window_seconds,
    )
