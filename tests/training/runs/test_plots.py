import numpy as np
import pytest
from matplotlib.figure import Figure

from edge import Classification, FrontEnd
from training.runs.evaluation import Evaluation
from training.runs.plots import (
    plot_confusion,
    plot_curves,
    plot_per_class,
    plot_reliability,
    plot_stream,
)

EVALUATION = Evaluation(
    ("a", "b", "c"),
    ("w", "x", "y", "z"),
    np.array([0, 0, 1, 1]),
    np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 1, 0], [0, 0.6, 0.4]], np.float32),
)


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """`draw(plot, *arguments)`: check the PNG that the function writes; return its axes."""

    def draw(plot, *arguments):
        figures, path = [], tmp_path / "plot.png"

        def record(self, *args, **kwargs):
            figures.append(self)
            savefig(self, *args, **kwargs)

        savefig = Figure.savefig
        with monkeypatch.context() as patch:
            patch.setattr(Figure, "savefig", record)
            plot(*arguments, path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert [other.name for other in tmp_path.iterdir()] == ["plot.png"]
        [figure] = figures
        return figure.axes

    return draw


def test_the_confusion_matrix_has_counts_and_the_accuracy(draw):
    [axes] = draw(plot_confusion, EVALUATION)
    assert axes.get_title() == "75.0% of 4 held-out clips"
    cells = {(text.get_position(), text.get_text()) for text in axes.texts}  # (predicted, true)
    assert cells == {((0, 0), "1"), ((1, 0), "1"), ((1, 1), "2")}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_classes_are_in_descending_order_of_accuracy(draw):
    [axes] = draw(plot_per_class, EVALUATION)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]  # no clips of c
    assert [bar.get_width() for bar in axes.patches] == [100.0, 50.0]
    assert axes.get_xlabel() == "accuracy in %; all 4 clips: dotted line"


def test_the_reliability_diagram_leaves_out_empty_bins(draw):
    above, below = draw(plot_reliability, EVALUATION)
    _, line = above.lines
    np.testing.assert_allclose(line.get_xydata(), [[0.6, 1], [0.8, 0], [0.9, 1], [1, 1]], rtol=1e-6)
    assert sum(bar.get_height() for bar in below.patches) == 4


def test_curves_show_the_columns_that_the_history_has(draw):
    rows = [{"epoch": i + 1.0, "loss": 1.0 - i, "accuracy": i, "val_loss": 2.0} for i in range(2)]
    loss, accuracy = draw(plot_curves, rows, "held-out fold", None)
    assert [line.get_label() for line in loss.lines] == ["training", "held-out fold"]
    assert [line.get_label() for line in accuracy.lines] == ["training"]
    assert loss.lines[0].get_xydata().tolist() == [[1.0, 1.0], [2.0, 0.0]]


def test_curves_mark_the_selected_epoch(draw):
    rows = [{"epoch": 1.0, "loss": 0.5, "accuracy": 0.5}]
    for axes in draw(plot_curves, rows, "validation fold", 1):
        assert axes.lines[-1].get_label() == "selected"
        assert set(axes.lines[-1].get_xdata()) == {1}


def test_curves_without_an_epoch_are_empty(draw):
    assert not any(axes.lines for axes in draw(plot_curves, [], "held-out fold", None))


@pytest.mark.parametrize("num_results", [1, 3])
def test_scores_are_drawn_at_the_ends_of_their_windows(draw, num_results):
    front_end = FrontEnd(8000, 256, 100, 16, 50.0, 4000.0, window_seconds=0.5)
    waveform = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    results = [
        Classification(
            start_seconds=0.25 * i,
            end_seconds=0.25 * i + 0.5,
            scores=np.array([0.25, 0.75], np.float32),
            embedding=np.zeros(2, np.float32),
            labels=("low hum", "hiss"),
            cosines=np.zeros(2, np.float32),
            level_dbfs=-3.0,
        )
        for i in range(num_results)
    ]
    sounds = [("a", 0.0, 0.25), ("b", 0.25, 1.0)]
    above, middle, below = draw(plot_stream, waveform, front_end, sounds, results)
    assert [tick.get_text() for tick in above.get_yticklabels()] == ["300", "1,000", "3,000"]
    bars = [(bar.get_x(), bar.get_width()) for bar in middle.patches]
    assert bars == [(0.0, 0.25), (0.25, 0.75)]
    assert [text.get_text() for text in middle.texts] == ["a", "b"]
    assert above.images[0].get_array().shape[0] == 16
    assert below.get_xlim() == (0.0, 1.0)
    [mesh] = below.collections
    edges = mesh.get_coordinates()[0, :-1, 0]
    np.testing.assert_allclose(edges, [result.end_seconds for result in results])
    np.testing.assert_allclose(mesh.get_array(), [[0.25] * num_results, [0.75] * num_results])
