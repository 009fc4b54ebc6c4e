import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from semanticac_keras.sound_files import resample
from semanticac_keras.tagger import Tagger, TaggerError

RATE_HZ = 4000


def noise(samples, seed=0):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def test_scores_and_embedding_equal_the_graphs(tagger, tagger_weights):
    model = Tagger(tagger, RATE_HZ)
    assert (model.window_samples, model.num_scores, model.embedding_dim) == (512, 5, 6)
    waveform = noise(1300)
    scores, embeddings = model.hear(waveform, RATE_HZ)
    # Overlapping by half; the last is aligned to the end.
    windows = np.stack([waveform[start : start + 512] for start in (0, 256, 512, 768, 788)])
    to_hidden, to_scores = tagger_weights
    expected = np.tanh(windows.reshape(5, 16, 32) @ to_hidden).mean(axis=1)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-expected @ to_scores)), atol=1e-5)


def test_a_short_sound_is_repeated_and_another_rate_is_resampled(tagger):
    model = Tagger(tagger, RATE_HZ)
    short = noise(200)
    for result, expected in zip(
        model.hear(short, RATE_HZ), model.hear(np.resize(short, 512), RATE_HZ), strict=True
    ):
        np.testing.assert_array_equal(result, expected)
    fast = noise(4000)
    scores, _ = model.hear(fast, 11_025)
    expected, _ = model.hear(resample(fast, 11_025, RATE_HZ), RATE_HZ)
    np.testing.assert_array_equal(scores, expected)


def test_a_result_depends_only_on_the_sound(tagger):
    """It does not depend on other sounds, their order or the thread."""
    waveforms = [noise(700, seed) for seed in range(12)]
    model = Tagger(tagger, RATE_HZ)
    alone = [Tagger(tagger, RATE_HZ).hear(waveform, RATE_HZ) for waveform in waveforms]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(model.hear, waveforms[::-1], [RATE_HZ] * 12))[::-1]
    for (scores, embeddings), (same_scores, same_embeddings) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(scores, same_scores)
        np.testing.assert_array_equal(embeddings, same_embeddings)


def test_a_wide_output_is_the_embedding(convert):
    tf = pytest.importorskip("tensorflow")
    weights = noise(128 * 5).reshape(128, 5)

    def serve(waveform):
        wide = tf.cos(waveform[:, :128])
        return wide, tf.nn.softmax(tf.sin(wide) @ weights)

    waveform = noise(256)
    scores, embeddings = Tagger(convert(serve, (1, 256)), RATE_HZ).hear(waveform, RATE_HZ)
    np.testing.assert_allclose(embeddings[0], np.cos(waveform[:128]), atol=1e-5)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)


def test_a_convolution_may_be_the_last_layer(convert):
    tf = pytest.importorskip("tensorflow")
    kernel = noise(8 * 3).reshape(1, 1, 8, 3)

    def serve(waveform):
        token_map = tf.nn.conv2d(tf.sin(tf.reshape(waveform, (1, 4, 4, 8))), kernel, 1, "VALID")
        return tf.sigmoid(tf.reduce_mean(token_map, axis=(1, 2)))

    waveform = noise(128)
    _, embeddings = Tagger(convert(serve, (128,)), RATE_HZ).hear(waveform, RATE_HZ)
    expected = np.sin(waveform).reshape(16, 8).mean(axis=0)
    np.testing.assert_allclose(embeddings[0], expected, atol=1e-5)


def test_a_graph_without_a_dense_layer_has_no_embedding(convert):
    tf = pytest.importorskip("tensorflow")
    path = convert(lambda waveform: tf.sigmoid(tf.reshape(waveform, (1, 64))), (64,))
    model = Tagger(path, RATE_HZ)
    scores, embeddings = model.hear(noise(128), RATE_HZ)
    assert (scores.shape, embeddings.shape, model.embedding_dim) == ((3, 64), (3, 0), 0)


def test_a_graph_of_open_length_gets_windows_of_one_second(convert):
    tf = pytest.importorskip("tensorflow")

    def serve(waveform):
        return tf.sigmoid(tf.reshape(tf.reduce_mean(waveform), (1, 1)) * np.ones((1, 3), "f"))

    model = Tagger(convert(serve, (None,)), RATE_HZ)
    assert model.window_samples == RATE_HZ
    waveform = noise(2 * RATE_HZ)
    scores, _ = model.hear(waveform, RATE_HZ)
    means = [waveform[start : start + RATE_HZ].mean() for start in (0, 2000, 4000)]
    np.testing.assert_allclose(scores[:, 0], 1 / (1 + np.exp(-np.array(means))), atol=1e-5)


def _two_inputs(waveform, other):
    return waveform + other


def _two_rows(waveform):
    return waveform * [[1.0], [2.0]]


def _sum(waveform):
    tf = pytest.importorskip("tensorflow")
    return tf.reduce_sum(waveform)


def _flat(values):
    tf = pytest.importorskip("tensorflow")
    return tf.sigmoid(tf.reshape(tf.cast(values, "float32"), (1, -1)))


@pytest.mark.parametrize(
    ("serve", "shapes", "dtype", "message"),
    [
        (_two_inputs, ((1, 64), (1, 64)), "float32", r"Received: float32 \(1, 64\), float32"),
        (_flat, ((64,),), "int8", r"Received: int8 \(64,\)"),
        (_flat, ((1, 96, 64),), "float32", r"Received: float32 \(1, 96, 64\)"),
        (_flat, ((96, 64),), "float32", "a waveform"),
        (lambda waveform: waveform + 2.0, ((1, 64),), "float32", "must be probabilities"),
        (lambda waveform: waveform, ((1, 64),), "float32", "computes nothing"),
        (_two_rows, ((64,),), "float32", "one row"),
        (_sum, ((64,),), "float32", r"one row of float32. Received: float32 \(\)"),
    ],
)
def test_refuses_other_graphs_in_one_line(convert, serve, shapes, dtype, message):
    path = convert(serve, *shapes, dtype=dtype)
    with pytest.raises(TaggerError, match=message) as raised:
        Tagger(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_refuses_other_files_in_one_line(tmp_path, tagger):
    text, half = tmp_path / "notes.txt", tmp_path / "half.tflite"
    text.write_text("not a model")
    half.write_bytes(tagger.read_bytes()[:900])
    for path in (text, half, tmp_path / "nowhere.tflite", tmp_path):
        with pytest.raises(TaggerError, match=str(path)) as raised:
            Tagger(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="sample_rate_hz"):
        Tagger(tagger, 0)


def test_yamnet():
    path = os.environ.get("SEMANTICAC_TAGGER")
    if not path:
        pytest.skip("SEMANTICAC_TAGGER does not name a yamnet.tflite")
    model = Tagger(path)
    assert (model.window_samples, model.num_scores, model.embedding_dim) == (15600, 521, 1024)
    scores, embeddings = model.hear(np.zeros(160_000, np.float32), 32_000)
    assert (scores.shape, embeddings.shape) == ((10, 521), (10, 1024))
    assert set(scores.argmax(axis=1)) == {494}  # "Silence"
    assert embeddings.min() >= 0.0  # means of ReLU outputs
