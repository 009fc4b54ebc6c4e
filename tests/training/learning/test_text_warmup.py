import keras
import numpy as np
import pytest

from semanticac_keras import SemanticAC
from training.learning.text_warmup import decorrelate_labels

LABELS = ("dog", "rain", "sea waves", "clock tick")


def largest_cosine(model):
    vectors = keras.ops.convert_to_numpy(model.label_embeddings)
    return np.abs((vectors @ vectors.T)[~np.eye(len(LABELS), dtype=bool)]).max()


@pytest.mark.slow
def test_the_warmup_separates_labels_and_leaves_the_audio_encoder(micro):
    keras.utils.set_random_seed(0)
    model = SemanticAC.from_preset(micro, LABELS)
    audio_weights = [values.copy() for values in model.audio_tower.encoder.get_weights()]
    before = largest_cosine(model)
    decorrelate_labels(model, 60, batch_size=4)
    assert largest_cosine(model) < 0.5 * before
    for values, expected in zip(
        model.audio_tower.encoder.get_weights(), audio_weights, strict=True
    ):
        np.testing.assert_array_equal(values, expected)
