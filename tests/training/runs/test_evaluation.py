import numpy as np

from training.runs.evaluation import Evaluation

EVALUATION = Evaluation(
    ("a", "b", "c"),
    ("w", "x", "y", "z"),
    np.array([0, 0, 1, 1]),
    np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 1, 0], [0, 0.6, 0.4]], np.float32),
)


def test_counts_by_true_and_predicted_label():
    assert EVALUATION.accuracy == 0.75
    assert EVALUATION.confusion().tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert EVALUATION.per_class() == {"a": 0.5, "b": 1.0}  # c has no clips


def test_lists_the_mistakes():
    [(name, truth, predicted, probability)] = EVALUATION.mistakes()
    assert (name, truth, predicted) == ("x", "a", "b")
    assert round(probability, 3) == 0.8


def test_standard_error_is_that_of_a_share_of_independent_clips():
    probabilities = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    evaluation = Evaluation(("a", "b"), tuple("wxyz"), np.array([0, 0, 0, 0]), probabilities)
    assert evaluation.accuracy == 0.75
    assert round(evaluation.standard_error, 4) == 0.2165


def test_lists_the_most_confused_pairs():
    probabilities = np.eye(3, dtype=np.float32)[[1, 1, 0, 2, 2, 2, 0]]
    truth = np.array([0, 0, 0, 1, 1, 2, 2])
    evaluation = Evaluation(("a", "b", "c"), tuple("tuvwxyz"), truth, probabilities)
    assert evaluation.hardest_pairs() == [("a", "b", 2, 3), ("b", "c", 2, 2), ("c", "a", 1, 2)]
    assert evaluation.hardest_pairs(1) == [("a", "b", 2, 3)]


def test_calibration_error_by_hand():
    # Highest probabilities 0.9, 0.8, 1.0 and 0.6; the 0.8 is wrong. In bins of 1/15: 0.6 lies in
    # (8/15, 9/15], 0.8 in (11/15, 12/15], 0.9 in (13/15, 14/15], 1.0 in (14/15, 1].
    bins = EVALUATION.confidence_bins()
    assert len(bins) == 15
    assert {i: bin.clips for i, bin in enumerate(bins) if bin.clips} == {8: 1, 11: 1, 13: 1, 14: 1}
    by_hand = (abs(1 - 0.6) + abs(0 - 0.8) + abs(1 - 0.9) + abs(1 - 1.0)) / 4
    np.testing.assert_allclose(EVALUATION.calibration_error(), by_hand, rtol=1e-6)

    # Two in one bin: their mean confidence 0.955 against half of them right.
    probabilities = np.array([[0.95, 0.05], [0.96, 0.04]], np.float32)
    two = Evaluation(("a", "b"), ("y", "z"), np.array([0, 1]), probabilities)
    np.testing.assert_allclose(two.calibration_error(), 0.955 - 0.5, rtol=1e-6)


def test_saves_loads_and_pools(tmp_path):
    EVALUATION.save(tmp_path / "predictions.npz")
    loaded = Evaluation.load(tmp_path / "predictions.npz")
    assert (loaded.labels, loaded.names) == (EVALUATION.labels, EVALUATION.names)
    np.testing.assert_array_equal(loaded.probabilities, EVALUATION.probabilities)
    both = Evaluation.pooled([EVALUATION, loaded])
    assert both.confusion().tolist() == (2 * EVALUATION.confusion()).tolist()
    assert both.calibration_error() == EVALUATION.calibration_error()


def test_a_row_that_is_not_finite_is_a_miss():
    nan = np.nan
    probabilities = np.array([[0.9, 0.1], [nan, nan], [nan, 0.9], [0.2, 0.8]], np.float32)
    evaluation = Evaluation(("a", "b"), ("w", "x", "y", "z"), np.array([0, 0, 1, 1]), probabilities)
    assert evaluation.accuracy == 0.5
    assert evaluation.confusion().tolist() == [[1, 0], [0, 1]]
    assert evaluation.per_class() == {"a": 0.5, "b": 0.5}
    assert [mistake[:3] for mistake in evaluation.mistakes()] == [
        ("x", "a", "nothing: not finite"),
        ("y", "b", "nothing: not finite"),
    ]
    assert evaluation.hardest_pairs() == []
    # 0.9 and 0.8 are right, and the others count as wrong at full confidence.
    by_hand = (abs(1 - 0.9) + abs(1 - 0.8) + 2 * abs(0 - 1)) / 4
    np.testing.assert_allclose(evaluation.calibration_error(), by_hand, rtol=1e-6)
