"""Contrastive losses between clips and label texts."""

from typing import Literal, get_args

from keras import ops

Targets = Literal["diagonal", "multi_positive", "prototype", "sigmoid"]
TARGETS: tuple[str, ...] = get_args(Targets)
# Those that match the clips with the texts of their own batch.
BATCH_TARGETS = ("diagonal", "multi_positive")


def l2_normalize(x):
    """Divide each vector of the last axis by its L2 norm; a zero vector stays zero.

    Args:
        x: (..., C).

    Returns:
        (..., C).
    """
    # By the root mean square: a sum of squares would become a TFLite operator that the CPU delegate
    # does not support.
    mean_square = ops.mean(ops.square(x), axis=-1, keepdims=True)
    return x * (ops.rsqrt(mean_square + 1e-12) * x.shape[-1] ** -0.5)


def one_hot(labels, num_labels: int):
    """Turn labels into label shares.

    Args:
        labels: int (B,).
        num_labels: number of labels, K.

    Returns:
        float32 (B, K); a row of NaN for a label outside 0 .. K - 1, which backends treat
        differently: some as no label at all.
    """
    labels = ops.cast(labels, "int32")
    exists = ops.logical_and(labels >= 0, labels < num_labels)
    shares = ops.one_hot(ops.clip(labels, 0, num_labels - 1), num_labels, dtype="float32")
    return ops.where(exists[:, None], shares, float("nan"))


def contrastive_loss(logits, targets_by_label, targets: Targets = "diagonal", sample_weight=None):
    """Cross entropy of scaled similarities between clips and label texts.

    With the first three forms a clip has one label, or is a mixture whose shares sum to 1. With
    `"sigmoid"` each label is decided by itself, so that a clip may have several or none.

    `"diagonal"` and `"multi_positive"` match the clips with the texts of their own batch, over rows
    and columns of the B x B similarity matrix S (eq. 3), whose column j belongs to the text of clip
    j. Each text is a label's, so the columns of S are columns of `logits`.

    * `"diagonal"`, as in the paper: the target of clip i is text i alone, even where another clip
      of the batch has the same label. A mixed clip counts as its larger label.
    * `"multi_positive"`: texts (clips) of the same label share the target mass. A mixed clip
      contributes to each of its labels by its share.
    * `"prototype"`: softmax over all K label texts, independent of the batch.
    * `"sigmoid"`: binary cross entropy of each of the K label texts, summed over the texts, as in
      SigLIP; independent of the batch.

    With one text per label and no mixed clips, the first two are equal, gradients included:
    repeated labels only raise the minimum of the loss.

    Args:
        logits: (B, K) cosine similarities times the logit scale; with `"sigmoid"`, plus a bias.
        targets_by_label: int labels (B,) in 0 .. K - 1, or float label shares (B, K), rows sum
            to 1; with `"sigmoid"`, targets in [0, 1] of each label, such as a teacher's scores.
        targets: form of the targets.
        sample_weight: optional (B,), weight of each clip.

    Returns:
        float32 scalar; NaN if a label is outside 0 .. K - 1, on every backend.

    Raises:
        ValueError: if `targets` is unknown.

    Source: SemanticAC, eq. 2-3; Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training",
    section 3.2.
    """
    if targets not in TARGETS:
        raise ValueError(f"`targets` must be one of {TARGETS}. Received: {targets!r}")
    logits = ops.cast(logits, "float32")
    num_labels = logits.shape[-1]
    shares = targets_by_label
    if len(shares.shape) == 1:
        shares = one_hot(shares, num_labels)
    elif targets == "diagonal":
        shares = one_hot(ops.argmax(shares, axis=-1), num_labels)
    shares = ops.cast(shares, "float32")
    weight = ops.ones_like(logits[:, 0]) if sample_weight is None else sample_weight
    weight = ops.reshape(ops.cast(weight, "float32"), (-1, 1))
    weight = weight / ops.maximum(ops.sum(weight), 1e-12)

    if targets == "prototype":
        return -ops.sum(weight * shares * ops.log_softmax(logits, axis=-1))
    if targets == "sigmoid":
        return ops.sum(weight * (ops.softplus(logits) - shares * logits))
    # Columns of S with the same text are one column of `logits`, counted as often as it occurs.
    count = ops.sum(shares, axis=0, keepdims=True)  # (1, K)
    log_count = ops.where(count > 0, ops.log(ops.maximum(count, 1e-12)), -1e9)
    over_texts = ops.logsumexp(logits + log_count, axis=1, keepdims=True)  # (B, 1)
    over_clips = ops.logsumexp(logits, axis=0, keepdims=True)  # (1, K)
    rows = ops.sum(weight * shares * (over_texts - logits))
    columns = ops.sum(weight * shares * (over_clips - logits))
    return 0.5 * (rows + columns)
