"""A dense layer over tokens, in the form of which the backend's gradient is quick."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("semanticac_keras")
class TokenDense(keras.layers.Dense):
    """Keras' dense layer of the last axis, on JAX as one product of all tokens.

    Of a product with more than two axes JAX derives a kernel gradient for which XLA first
    transposes the tokens, on a processor by a copy that takes longer than the product. On the other
    backends, and so in every export, it is Keras' own.

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
