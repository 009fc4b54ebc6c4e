"""Dense layer over tokens with a fast gradient on JAX."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("semanticac_keras")
class TokenDense(keras.layers.Dense):
    """Dense layer over the last axis, computed on JAX as one 2-D product over all tokens.

    For products with more than two axes, the kernel gradient of JAX makes XLA transpose the tokens,
    which on a CPU takes longer than the product itself. The other backends, and so every export,
    use Keras' own implementation.

    Call arguments:
        inputs: (B, M, C).

    Returns:
        (B, M, units).
    """

    def call(self, inputs, training=None):
        if keras.backend.backend() != "jax":
            return super().call(inputs, training=training)
        tokens, channels = inputs.shape[1:]
        outputs = super().call(ops.reshape(inputs, (-1, channels)), training=training)
        return ops.reshape(outputs, (-1, tokens, self.units))
