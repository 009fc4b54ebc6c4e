import numpy as np

from training.runs.evaluation import Evaluation
from training.runs.markdown import evaluation_section, provenance_section, table

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
