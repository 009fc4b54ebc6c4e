import keras
import numpy as np

from semanticac_keras import SemanticAC
from training.learning.text_warmup import decorrelate_labels

LABELS = ("dog", "rain", "sea waves", "clock tick")


def largest_cosine(model):
    vectors = keras.ops.convert_to_numpy(model.label_embeddings)
    return np.abs((vectors @ vectors.T)[~np.eye(len(LABELS), dtype=bool)]).max()


def test_labels_begin_apart(micro):
    keras.utils.set_random_seed(0)
    model = SemanticAC.from_preset(micro, LABELS)
    sound = keras.ops.convert_to_numpy(model.audio_tower.encoder.trainable_variables[0]).copy()
    before = largest_cosine(model)
    decorrelate_labels(model, 60, batch_size=4)
    assert largest_cosine(model) < 0.5 * before
    after = keras.ops.convert_to_numpy(model.audio_tower.encoder.trainable_variables[0])
    np.testing.assert_array_equal(after, sound)
