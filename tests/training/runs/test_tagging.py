import numpy as np
import pytest

from training.runs.evaluation import Evaluation
from training.runs.tagging import (
    Tagging,
    average_precision,
    load_predictions,
    predictions_of,
)

TRUTH = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])
SCORES = np.array([[0.9, 0.4, 0.1], [0.7, 0.2, 0.6], [0.1, 0.8, 0.1], [0.6, 0.3, 0.2]], np.float32)
TAGGING = Tagging(("dog", "rain", "owl"), ("w", "x", "y", "z"), TRUTH, SCORES)


@pytest.mark.parametrize(
    ("truth", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], (1 + 2 / 3) / 2),
        ([1, 1, 0, 0], [4, 3, 2, 1], 1.0),
        ([0, 0, 0, 1], [4, 3, 2, 1], 1 / 4),
        # Relevant at ranks 1, 3 and 6, the textbook example.
        ([1, 0, 1, 0, 0, 1], [6, 5, 4, 3, 2, 1], (1 + 2 / 3 + 3 / 6) / 3),
        # Equal scores are one rank, whatever their order.
        ([1, 0, 0, 0], [1, 1, 1, 1], 1 / 4),
        ([0, 0, 0, 1], [1, 1, 1, 1], 1 / 4),
        ([0, 1, 1], [2, 2, 1], (1 / 2 + 2 / 3) / 2),
        ([1, 1, 0, 0], [0.9, 0.8, 0.3, 0.1], 1.0),
        ([0, 0, 1, 1], [0.9, 0.8, 0.3, 0.1], (1 / 3 + 2 / 4) / 2),
        ([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1], (1 + 2 / 3) / 2),
    ],
)
def test_average_precision_of_known_rankings(truth, scores, expected):
    found = average_precision(np.array(truth), np.array(scores, np.float32))
    assert found == pytest.approx(expected)


def test_labels_are_measured_by_themselves():
    assert TAGGING.average_precisions() == {
        "dog": pytest.approx((1 + 2 / 3) / 2),
        "rain": 1.0,
    }  # the owl has no clips
    assert TAGGING.quality == pytest.approx((1 + 5 / 6) / 2)
    dog, rain = TAGGING.tallies().values()
    assert (dog.precision, dog.recall) == (pytest.approx(2 / 3), 1.0)
    assert (rain.precision, rain.recall) == (1.0, 0.5)
    assert TAGGING.per_class() == {"dog": pytest.approx(4 / 5), "rain": pytest.approx(2 / 3)}
    figures = TAGGING.figures()
    assert list(figures) == ["per_class_f1", "per_class_average_precision"]


def test_mistakes_name_missed_and_wrong_labels():
    assert TAGGING.mistakes() == [("w", ("rain",), ()), ("x", (), ("dog", "owl"))]


def test_a_row_that_is_not_finite_predicts_nothing():
    scores = SCORES.copy()
    scores[0, 2] = np.nan
    tagging = Tagging(TAGGING.labels, TAGGING.names, TRUTH, scores)
    assert tagging.tallies()["dog"].found == 1
    assert np.isfinite(tagging.quality)
    assert tagging.quality < TAGGING.quality


def test_calibration_counts_each_score_of_each_clip():
    bins = TAGGING.confidence_bins()
    assert sum(bin.clips for bin in bins) == 12
    by_hand = [  # mean score, share with the label, scores: by bins of 1/15
        *((0.1, 0, 3), (0.2, 0, 2), (0.3, 0, 1), (0.4, 1, 1), (0.6, 0.5, 2)),
        *((0.7, 0, 1), (0.8, 1, 1), (0.9, 1, 1)),
    ]
    error = sum(count * abs(score - share) for score, share, count in by_hand) / 12
    assert TAGGING.calibration_error() == pytest.approx(error, rel=1e-6)


def test_both_kinds_are_saved_and_read(tmp_path):
    TAGGING.save(tmp_path / "several.npz")
    loaded = load_predictions(tmp_path / "several.npz")
    assert isinstance(loaded, Tagging)
    assert loaded.quality == TAGGING.quality
    assert Tagging.pooled([TAGGING, loaded]).truth.shape == (8, 3)
    one = predictions_of(("a", "b"), ("x",), np.array([0]), np.eye(1, 2, dtype=np.float32))
    one.save(tmp_path / "one.npz")
    assert isinstance(load_predictions(tmp_path / "one.npz"), Evaluation)
    assert (one.key, TAGGING.key) == ("accuracy", "mean_average_precision")
