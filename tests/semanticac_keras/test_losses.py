import numpy as np
import pytest
from keras import ops

from semanticac_keras import contrastive_loss
from semanticac_keras.losses import TARGETS

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.standard_normal((9, 5))).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 3, 1, 0, 2, 2])  # repeats; label 4 is absent


def loss(logits, targets_by_label, *arguments):
    result = contrastive_loss(
        ops.convert_to_tensor(logits), ops.convert_to_tensor(targets_by_label), *arguments
    )
    return float(ops.convert_to_numpy(result))


def log_softmax(x, axis):
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def matrix_loss(logits, labels, target_matrix):
    """Eq. 3 as written: mean cross entropy over the rows and over the columns of S."""
    similarity = logits[:, labels].astype(np.float64)
    rows = -(target_matrix * log_softmax(similarity, 1)).sum(1).mean()
    columns = -(target_matrix * log_softmax(similarity, 0)).sum(0).mean()
    return (rows + columns) / 2


def test_diagonal_matches_the_paper_s_equation():
    assert loss(LOGITS, LABELS) == pytest.approx(matrix_loss(LOGITS, LABELS, np.eye(9)), abs=1e-5)


def test_multi_positive_shares_the_mass_among_repeats():
    same = LABELS[:, None] == LABELS[None]
    shared = same / same.sum(1, keepdims=True)
    expected = matrix_loss(LOGITS, LABELS, shared)
    assert loss(LOGITS, LABELS, "multi_positive") == pytest.approx(expected, abs=1e-5)


def test_batch_forms_are_equal_for_one_text_per_label():
    for seed in range(5):
        logits = 10 * np.random.default_rng(seed).standard_normal((9, 5)).astype(np.float32)
        assert loss(logits, LABELS, "multi_positive") == pytest.approx(
            loss(logits, LABELS, "diagonal"), rel=1e-5
        )


def test_batch_forms_differ_for_mixed_clips():
    shares = (
        0.7 * np.eye(5, dtype=np.float32)[LABELS] + 0.3 * np.eye(5, dtype=np.float32)[LABELS[::-1]]
    )
    assert abs(loss(LOGITS, shares, "multi_positive") - loss(LOGITS, shares, "diagonal")) > 0.01
    # The diagonal form takes the larger share.
    assert loss(LOGITS, shares, "diagonal") == pytest.approx(loss(LOGITS, LABELS, "diagonal"))


def test_repeated_labels_raise_the_minimum_of_diagonal():
    perfect = (100 * np.eye(3)).astype(np.float32)[[0, 0, 1, 2]]
    labels = np.array([0, 0, 1, 2])
    assert loss(perfect, labels) == pytest.approx(2 * np.log(2) / 4, abs=1e-4)
    assert loss(perfect, labels, "prototype") == pytest.approx(0, abs=1e-4)


def test_prototype_is_cross_entropy_over_all_labels():
    expected = -log_softmax(LOGITS.astype(np.float64), 1)[np.arange(9), LABELS].mean()
    assert loss(LOGITS, LABELS, "prototype") == pytest.approx(expected, abs=1e-5)


def test_sigmoid_is_binary_cross_entropy_of_each_label():
    several = RNG.integers(0, 2, LOGITS.shape).astype(np.float32)
    several[0] = 0.0  # a clip without a label
    several[1] = RNG.uniform(size=5)  # a teacher's scores
    scores = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    entropy = -(several * np.log(scores) + (1 - several) * np.log(1 - scores))
    assert loss(LOGITS, several, "sigmoid") == pytest.approx(entropy.sum(1).mean(), rel=1e-5)


def test_sigmoid_does_not_depend_on_the_other_clips_and_labels():
    one_hot = np.eye(5, dtype=np.float32)[LABELS]
    parts = [
        loss(LOGITS[i : i + 1, [j]], one_hot[i : i + 1, [j]], "sigmoid")
        for i in range(9)
        for j in range(5)
    ]
    assert loss(LOGITS, one_hot, "sigmoid") == pytest.approx(sum(parts) / 9, rel=1e-5)


@pytest.mark.parametrize("targets", TARGETS)
def test_labels_and_one_hot_shares_agree(targets):
    one_hot = np.eye(5, dtype=np.float32)[LABELS]
    assert loss(LOGITS, one_hot, targets) == pytest.approx(loss(LOGITS, LABELS, targets), rel=1e-6)


@pytest.mark.parametrize("targets", TARGETS)
def test_sample_weights_scale_a_clips_share(targets):
    equal = np.full(9, 3.0, np.float32)
    assert loss(LOGITS, LABELS, targets, equal) == pytest.approx(
        loss(LOGITS, LABELS, targets), rel=1e-5
    )
    first = np.array([1.0] + [0.0] * 8, np.float32)
    assert loss(LOGITS, LABELS, targets, first) != pytest.approx(loss(LOGITS, LABELS, targets))


def test_large_logits_stay_finite():
    huge = (1e4 * RNG.standard_normal((9, 5))).astype(np.float32)
    for targets in TARGETS:
        assert np.isfinite(loss(huge, LABELS, targets))


def test_unknown_targets_are_rejected():
    with pytest.raises(ValueError, match="`targets` must be one of"):
        loss(LOGITS, LABELS, "softmax")


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_label_that_does_not_exist_gives_nan(targets, wrong):
    labels = np.where(np.arange(len(LABELS)) == 2, wrong, LABELS)
    assert np.isnan(loss(LOGITS, labels, targets))
