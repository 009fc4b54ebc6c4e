import numpy as np

from training.runs.evaluation import Evaluation
from training.runs.markdown import evaluation_section, mistakes_table, provenance_section, table
from training.runs.tagging import Tagging

CONFIG = {
    "command": ["python", "-m", "training.fit", "--prompt", "a {label}"],
    "python": "3.12.1",
    "versions": {"keras": "3.9", "numpy": "2.2"},
    "git_revision": None,
}


def evaluation(*predicted):
    """Create an evaluation of two clips, one of each class."""
    probabilities = np.eye(2, dtype=np.float32)[list(predicted)]
    return Evaluation(("dog", "cat"), ("x", "y"), np.array([0, 1]), probabilities)


def test_a_table_escapes_pipes():
    assert table(("clip", "label"), [("a|b.wav", "dog"), ("c.wav", "cat")]) == [
        "| clip | label |",
        "| --- | --- |",
        "| a\\|b.wav | dog |",
        "| c.wav | cat |",
    ]


def test_an_evaluation_shows_accuracy_confusions_and_calibration(tmp_path):
    lines = evaluation_section(evaluation(0, 0), tmp_path, "last-", "###")
    for line in ("### By class", "| dog | 100.0% |", "| cat | 0.0% |", "| cat | dog | 1 of 1 |"):
        assert line in lines
    assert any(line.startswith("Expected calibration error 0.500:") for line in lines)


def test_an_evaluation_writes_each_plot_it_shows(tmp_path):
    text = "\n".join(evaluation_section(evaluation(0, 1), tmp_path, "last-"))
    names = {path.name for path in tmp_path.iterdir()}
    plots = ("confusion_matrix", "per_class_accuracy", "reliability")
    assert names == {f"last-{plot}.png" for plot in plots}
    assert all(f"({name})" in text for name in names)
    assert "No mistakes." in text


def test_provenance_quotes_the_command_for_a_shell():
    lines = provenance_section(CONFIG)
    assert "python -m training.fit --prompt 'a {label}'" in lines
    assert "Python 3.12.1, keras 3.9, numpy 2.2; revision unknown." in lines


def test_independent_labels_have_average_precision_and_f1_in_place_of_confusions(tmp_path):
    truth, scores = np.array([[1, 1], [0, 1]]), np.array([[0.9, 0.8], [0.2, 0.1]], np.float32)
    tagging = Tagging(("dog", "rain"), ("x", "y"), truth, scores)
    lines = evaluation_section(tagging, tmp_path)
    assert "| dog | 1 | 100.0% | 100.0% | 100.0% | 100.0% |" in lines
    assert "| rain | 2 | 100.0% | 66.7% | 100.0% | 50.0% |" in lines
    assert "| mean |  | 100.0% | 83.3% | 100.0% | 75.0% |" in lines
    assert "Hardest pairs" not in "".join(lines)
    assert {path.name for path in tmp_path.iterdir()} == {"per_class_f1.png", "reliability.png"}
    assert mistakes_table(tagging)[2:] == ["| y | rain | - |"]
