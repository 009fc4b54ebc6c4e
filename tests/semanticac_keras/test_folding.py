"""LayerNorm folding leaves the encoder's output unchanged."""

import keras
import numpy as np
import pytest

from semanticac_keras import HTSATEncoder
from semanticac_keras.folding import fold_layer_norms
from semanticac_keras.presets import PRESETS


@pytest.fixture
def encoder(micro):
    """Micro encoder whose LayerNorms have non-trivial scales and offsets."""
    keras.utils.set_random_seed(0)
    encoder = HTSATEncoder(**PRESETS[micro].audio_encoder)
    rng = np.random.default_rng(0)
    for variable in encoder.trainable_variables:
        if variable.name in ("gamma", "beta"):
            offset = variable.name == "gamma"
            variable.assign(offset + 0.5 * rng.standard_normal(variable.shape))
    return encoder


def test_folding_preserves_the_output(encoder):
    log_mels = np.random.default_rng(1).normal(-30, 20, (2, encoder.num_frames, encoder.num_mels))
    before = encoder.predict(log_mels, verbose=0)
    fold_layer_norms(encoder)
    folded = keras.ops.convert_to_numpy(encoder(log_mels.astype(np.float32)))
    assert encoder.stages[0].norm1.gamma is None
    # Float32 in another order of summation; values are about 1.
    np.testing.assert_allclose(folded, before, atol=2e-5)
