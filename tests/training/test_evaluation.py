import numpy as np

from training.evaluation import Evaluation

EVALUATION = Evaluation(
    ("a", "b", "c"),
    np.array([0, 0, 1, 1]),
    np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 1, 0], [0, 0.6, 0.4]], np.float32),
)


def test_counts_by_true_and_predicted_label():
    assert EVALUATION.accuracy == 0.75
    assert EVALUATION.confusion().tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert EVALUATION.per_class() == {"a": 0.5, "b": 1.0}  # nothing to say of c


def test_names_what_went_wrong():
    [(name, truth, given, probability)] = EVALUATION.mistakes(["w", "x", "y", "z"])
    assert (name, truth, given) == ("x", "a", "b")
    assert round(probability, 3) == 0.8
