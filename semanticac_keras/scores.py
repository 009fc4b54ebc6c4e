"""From logits to scores."""

import numpy as np

from edge.types import FloatArray


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis.

    Args:
        logits: float (n, K).

    Returns:
        Probabilities (n, K), rows sum to 1.
    """
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Sigmoid of each logit.

    Args:
        logits: float (n, K).

    Returns:
        Probabilities (n, K), each by itself.
    """
    decay = np.exp(-np.abs(logits))  # at most 1, so that nothing overflows
    return np.where(logits < 0, decay, 1) / (1 + decay)
