"""The paper's SGD, and Muon, which needs fewer clips."""

import math
import re
from typing import Any

import keras
from keras import ops

from training.learning.cpu import has_bfloat16
from training.learning.distribution import device_kind


@keras.saving.register_keras_serializable("semanticac_keras")
class CoupledSGD(keras.optimizers.SGD):
    """SGD with weight decay added to the gradient, and so to the momentum, as in PyTorch.

    Keras' `weight_decay` is decoupled: it shrinks the weights outside the update.

    Args:
        learning_rate: rate or schedule.
        momentum: decay of the momentum.
        nesterov: use Nesterov momentum.
        coupled_decay: factor of each weight that is added to its gradient.
        **options: other arguments of `keras.optimizers.SGD`, such as `use_ema`.

    Source: `torch.optim.SGD`; SemanticAC, section 3.2.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        coupled_decay: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, **options)
        self.coupled_decay = coupled_decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        decay = ops.multiply(ops.cast(self.coupled_decay, gradient.dtype), variable)
        super().update_step(ops.add(gradient, decay), variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "coupled_decay": self.coupled_decay}


@keras.saving.register_keras_serializable("semanticac_keras")
class Muon(keras.optimizers.AdamW):
    """AdamW with orthogonal updates for the kernels of hidden layers, including convolutions.

    The momentum of such a kernel, as a matrix of inputs by outputs, is replaced by its nearest
    (semi-)orthogonal matrix, so that all its directions learn equally fast. The update is scaled to
    the size of AdamW's, so that AdamW's learning rate and weight decay apply. Keras' own `Muon`
    leaves convolutions to AdamW. The orthogonal matrices are computed in bfloat16, but in float32
    on a CPU without bfloat16 instructions.

    Args:
        learning_rate: rate or schedule.
        muon_momentum: decay of the momentum.
        adam_paths: regular expressions for paths of kernels that AdamW updates nevertheless, such
            as those of input and output layers.
        **options: other arguments of `keras.optimizers.AdamW`.

    Source: Jordan et al. 2024, "Muon"; the scale: Liu et al. 2025, "Muon is Scalable", eq. 4.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        muon_momentum: float = 0.95,
        adam_paths: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.muon_momentum = muon_momentum
        self.adam_paths = tuple(adam_paths)

    def build(self, variables: list[Any]) -> None:
        """Create the optimiser's state."""
        super().build(variables)
        self._fast_dtype = _fast_dtype()
        self._hidden = [self._is_hidden_kernel(variable) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)  # TensorFlow passes variables without a path
        if not self._hidden[index]:
            super().update_step(gradient, variable, learning_rate)
            return
        momentum = self._momentums[index]
        self.assign(momentum, ops.add(gradient, self.muon_momentum * momentum))
        ahead = ops.add(gradient, self.muon_momentum * momentum)  # Nesterov momentum
        inputs, outputs = math.prod(variable.shape[:-1]), variable.shape[-1]
        update = _orthogonal(ops.reshape(ahead, (inputs, outputs)), self._fast_dtype)
        scale = 0.2 * math.sqrt(max(inputs, outputs)) * ops.cast(learning_rate, variable.dtype)
        update = ops.reshape(ops.cast(update, variable.dtype), variable.shape)
        self.assign_sub(variable, scale * update)

    def _is_hidden_kernel(self, variable: Any) -> bool:
        if not variable.path.endswith("kernel") or len(variable.shape) < 2:
            return False
        if len(variable.shape) > 2 and 1 in variable.shape[-2:]:  # one input or output channel
            return False
        return not any(re.search(pattern, variable.path) for pattern in self.adam_paths)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "muon_momentum": self.muon_momentum,
            "adam_paths": self.adam_paths,
        }


def _fast_dtype() -> str:
    """Return bfloat16 unless the processor lacks instructions: it is 12 times slower without."""
    return "float32" if device_kind() == "cpu" and not has_bfloat16() else "bfloat16"


def _orthogonal(matrix: Any, dtype: str) -> Any:
    """Approximate the nearest (semi-)orthogonal matrix by Newton-Schulz iteration in `dtype`.

    The singular values lie between about 0.7 and 1.2, which suffices for an update.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = ops.cast(x / (ops.norm(x) + 1e-7), dtype)
    for _ in range(5):
        square = ops.matmul(x, ops.transpose(x))
        square = -4.775 * square + 2.0315 * ops.matmul(square, square)
        x = 3.4445 * x + ops.matmul(square, x)
    return ops.transpose(x) if tall else x
