"""Make the graphs of the edge tests: `python make_tiny_models.py` (needs TensorFlow).

The graphs weight the time steps of their input differently, so a window that is off by one step, or
has its rows out of order, gives different scores. Window 1 s at 32 kHz, 5 labels, embedding size 8.
As in an exported model, the cosines compare unit vectors, and the scores are their scaled softmax
or, in `tiny_independent`, the sigmoid of each.

The tagger, whose embeddings are the input of `tiny_embeddings`, has windows of 0.25 s.
"""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

LABELS, EMBEDDING, LOGIT_SCALE, LOGIT_BIAS = 5, 8, 1 / 0.07, -1.5
SHAPES = {"log_mel": (1, 101, 64), "waveform": (1, 32_000), "embeddings": (1, 7, 16)}
# Offset and factor that map decibels around -50, samples and embeddings to the steep range of tanh,
# and the number of time steps.
RANGES = {"log_mel": (50.0, 0.02, 101), "waveform": (0.0, 5.0, 200), "embeddings": (0.0, 1.0, 7)}
TAGGER_WINDOW, TAGGER_EMBEDDING = 8000, 16


def make(inputs: str, exclusive: bool = True) -> bytes:
    """Build one graph and convert it."""
    rng = np.random.default_rng(0)
    offset, scale, steps = RANGES[inputs]
    columns = int(np.prod(SHAPES[inputs])) // steps
    over_time = rng.normal(size=(1, steps)).astype(np.float32) / steps**0.5
    to_embedding = rng.normal(size=(columns, EMBEDDING)).astype(np.float32) / columns**0.5
    labels = rng.normal(size=(EMBEDDING, LABELS)).astype(np.float32)
    labels /= np.linalg.norm(labels, axis=0)

    class Tiny(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec(SHAPES[inputs], tf.float32, name="inputs")])
        def serve(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = (tf.reshape(inputs, (steps, columns)) + offset) * scale
            embedding = tf.math.l2_normalize(tf.tanh(over_time @ rows @ to_embedding), axis=-1)
            cosines = embedding @ labels
            scores = tf.nn.softmax(cosines * LOGIT_SCALE)
            if not exclusive:
                scores = tf.sigmoid(cosines * LOGIT_SCALE + LOGIT_BIAS)
            return {"scores": scores, "cosines": cosines, "embedding": embedding}

    return convert(Tiny())


def make_tagger() -> bytes:
    """Build the tagger and convert it: scores and an embedding of a waveform."""
    rng = np.random.default_rng(1)
    over_time = rng.normal(size=(4, 100)).astype(np.float32) / 10
    to_embedding = rng.normal(size=(80, TAGGER_EMBEDDING // 4)).astype(np.float32)
    to_scores = rng.normal(size=(TAGGER_EMBEDDING, 3)).astype(np.float32)

    class Tagger(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((TAGGER_WINDOW,), tf.float32, name="inputs")])
        def serve(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = over_time @ tf.reshape(inputs, (100, 80)) @ to_embedding
            embedding = tf.tanh(tf.reshape(rows, (1, TAGGER_EMBEDDING)))
            return {"scores": tf.sigmoid(embedding @ to_scores), "embedding": embedding}

    return convert(Tagger())


def convert(module: tf.Module) -> bytes:
    """Convert a module's `serve` to a flatbuffer."""
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


if __name__ == "__main__":
    for inputs in SHAPES:
        Path(__file__).with_name(f"tiny_{inputs}.tflite").write_bytes(make(inputs))
    independent = make("log_mel", exclusive=False)
    Path(__file__).with_name("tiny_independent.tflite").write_bytes(independent)
    Path(__file__).with_name("tiny_tagger.tflite").write_bytes(make_tagger())
