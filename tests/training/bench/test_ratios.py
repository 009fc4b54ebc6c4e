"""The ratios of speed: their tables, their limits and the exit status."""

import pytest

pytest.importorskip("tensorflow")

from training.bench import __main__ as bench
from training.bench import ratios
from training.bench.contenders import ContenderError
from training.bench.encoder import Entry, Outcome, compare_encoders
from training.bench.listening import STAGES
from training.bench.ratios import Ratio, loop_ratios, measure_ratios, ratio_table, window_ratios
from training.bench.stages import OUTSIDE
from training.bench.stream import Loop


def entry(*cpu_seconds):
    return Entry("model", [], 10.0, cpu_seconds=list(cpu_seconds))


@pytest.fixture
def outcome():
    entries = {
        "float32": entry(0.6, 1.4, 0.7),
        "int8": entry(0.2, 0.6, 0.3),
        "torch": entry(1.0, 2.0, 1.0),
    }
    peaks = {"matrix product of numpy": [8e10], "fused multiply-adds": [1e11]}
    return Outcome(entries, {}, peaks, "")


@pytest.fixture
def loop(tmp_path):
    spent = dict.fromkeys([*STAGES, OUTSIDE], 0.25) | {"network": 100.0}
    return Loop(tmp_path / "base-float32.tflite", 1.0, [spent], [0.0], [0])


def test_a_ratio_fails_beyond_twice_its_expectation():
    assert Ratio("at the limit", 1.0, 0.5).passes
    assert not Ratio("above", 1.01, 0.5).passes


def test_windows_are_compared_within_a_round(outcome):
    measured = [ratio.measured for ratio in window_ratios(outcome)]

    assert measured == pytest.approx([0.7, 0.3, 0.8])


def test_without_a_compiler_the_core_has_no_ratio(outcome):
    del outcome.peaks["fused multiply-adds"]

    assert len(list(window_ratios(outcome))) == 2


def test_listening_is_compared_with_its_network(loop):
    front_end, others = loop_ratios(loop)

    assert front_end.measured == pytest.approx(0.005)
    # Windows, decision, output and the rest of the loop.
    assert others.measured == pytest.approx(0.01)


@pytest.fixture
def measured(outcome, loop, monkeypatch):
    """Replace both measurements: the outcome, and what `measure_loops` returns."""
    loops, left_out = [loop], {}
    monkeypatch.setattr(ratios, "compare_encoders", lambda *_: outcome)
    monkeypatch.setattr(ratios, "measure_loops", lambda *_: (loops, left_out))
    return outcome, left_out


def test_each_ratio_is_printed_beside_its_expectation(measured, capsys):
    assert bench.main(["ratios"]) == 0

    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("passed |")]
    assert len(rows) == 5
    assert "| ours, float32, against Hugging Face on PyTorch (eager) | 0.700 | 0.65 |" in rows[0]


def test_one_slow_ratio_gives_status_1(measured, capsys):
    measured[0].entries["int8"].cpu_seconds = [0.6, 1.2, 0.6]

    assert bench.main(["ratios"]) == 1
    output = capsys.readouterr().out
    assert output.count("| failed |") == 1
    assert "| 0.600 | 0.26 | failed |" in output


@pytest.mark.parametrize("place", ["window", "listening"])
def test_every_contender_is_required(place, measured, tmp_path, capsys):
    outcome, left_out = measured
    (outcome.left_out if place == "window" else left_out)["someone"] = "no such package"

    with pytest.raises(ContenderError, match="every contender: someone: no such package"):
        measure_ratios(1, tmp_path)
    assert bench.main(["ratios"]) == 1
    assert "no such package" in capsys.readouterr().err


def test_the_table_names_the_tolerance():
    assert "above 2 times" in ratio_table([])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_base_is_one_partition_and_int8_keeps_its_embeddings(tmp_path):
    entries = compare_encoders(["float32", "int8"], "base", rounds=1, folder=tmp_path).entries

    assert {entries[name].partitions for name in ("float32", "int8")} == {1}
    assert entries["int8"].cosine > 0.998
