"""Batch normalisation with PyTorch's fused kernel."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("semanticac_keras")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis, fused while training on PyTorch.

    Keras composes batch normalisation of a dozen float32 elementwise operations. PyTorch does not
    fuse them, and they take more than half of a training step of a convolutional stem. The fused
    kernel reads and writes the compute dtype and keeps its statistics in float32. Inference, and
    training on JAX or TensorFlow, use Keras' own implementation.

    Call arguments:
        inputs: (B, rows, columns, C).

    Returns:
        (B, rows, columns, C).
    """

    def call(self, inputs, training=None, mask=None):
        if keras.backend.backend() != "torch" or not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        from torch.nn.functional import batch_norm

        mean, variance = ops.zeros((self.gamma.shape[0],)), ops.ones((self.gamma.shape[0],))
        x = batch_norm(
            ops.transpose(inputs, (0, 3, 1, 2)),  # a view: memory stays channels last
            mean,
            variance,
            ops.convert_to_tensor(self.gamma),
            ops.convert_to_tensor(self.beta),
            training=True,
            momentum=1.0,  # leaves this batch's own statistics in `mean` and `variance`
            eps=self.epsilon,
        )
        # PyTorch tracks the unbiased variance, Keras the biased one.
        count = inputs.shape[0] * inputs.shape[1] * inputs.shape[2]
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance * ((count - 1) / count))
        return ops.transpose(x, (0, 2, 3, 1))

    def _move(self, moving, new):
        moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
