"""Batch normalisation with the fused kernels of PyTorch and TensorFlow."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("semanticac_keras")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis, fused while training on PyTorch and TensorFlow.

    Keras composes batch normalisation of a dozen float32 elementwise operations, and only JAX fuses
    them. On PyTorch they take more than half of a training step of a convolutional stem, on
    TensorFlow two fifths. The fused kernels read and write the compute dtype and keep their
    statistics in float32. Inference and training on JAX use Keras' own implementation.

    Call arguments:
        inputs: (B, rows, columns, C).

    Returns:
        (B, rows, columns, C).
    """

    def call(self, inputs, training=None, mask=None):
        fused = {"torch": _torch, "tensorflow": _tensorflow}.get(keras.backend.backend())
        if fused is None or not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        x, mean, variance = fused(inputs, gamma, beta, self.epsilon)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return x

    def _move(self, moving, new):
        moving.assign(moving * self.momentum + new * (1.0 - self.momentum))


def _torch(x, gamma, beta, epsilon):
    """Return the normalised values and the mean and biased variance of the batch."""
    from torch.nn.functional import batch_norm

    mean, variance = ops.zeros_like(gamma), ops.ones_like(gamma)
    count = x.shape[0] * x.shape[1] * x.shape[2]
    x = batch_norm(
        ops.transpose(x, (0, 3, 1, 2)),  # a view: memory stays channels last
        mean,
        variance,
        gamma,
        beta,
        training=True,
        momentum=1.0,  # leaves this batch's own statistics in `mean` and `variance`
        eps=epsilon,
    )
    return ops.transpose(x, (0, 2, 3, 1)), mean, variance * ((count - 1) / count)


def _tensorflow(x, gamma, beta, epsilon):
    """Return the normalised values and the mean and biased variance of the batch."""
    import tensorflow as tf

    count = ops.cast(tf.size(x) / x.shape[-1], "float32")
    x, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        x, gamma, beta, epsilon=epsilon, is_training=True
    )
    return x, mean, variance * ((count - 1.0) / count)
