"""The ratios of speed and the properties of bundles: tables, limits and exit status."""

import pytest

pytest.importorskip("tensorflow")

from training.bench import __main__ as bench
from training.bench import ratios
from training.bench.contenders import ContenderError
from training.bench.encoder import Entry, Outcome, compare_encoders
from training.bench.listening import STAGES
from training.bench.ratios import (
    Ratio,
    bundle_properties,
    loop_ratios,
    measure_ratios,
    ratio_table,
    window_ratios,
)
from training.bench.stages import OUTSIDE
from training.bench.stream import Loop


def entry(*cpu_seconds, **values):
    return Entry("model", [], 10.0, cpu_seconds=list(cpu_seconds), **values)


@pytest.fixture
def outcome():
    entries = {
        "float32": entry(0.6, 1.4, 0.7, partitions=1),
        "int8": entry(0.2, 0.6, 0.3, partitions=1, cosine=0.9985),
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
    expected = {"float32": 0.65, "int8": 0.26}
    monkeypatch.setattr(ratios, "expected_windows", lambda: expected)
    return outcome, left_out


def test_each_ratio_is_printed_beside_its_expectation(measured, capsys):
    assert bench.main(["ratios"]) == 0

    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("passed |")]
    assert len(rows) == 8
    assert "| ours, float32, against Hugging Face on PyTorch (eager) | 0.700 | 0.65 |" in rows[0]


@pytest.mark.parametrize(("flags", "int8"), [("avx2 fma", 0.67), ("avx2 avx512_vnni", 0.26)])
def test_the_expectation_of_int8_depends_on_the_processor(flags, int8, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert ratios.expected_windows(tmp_path / "cpuinfo")["int8"] == int8


def test_one_slow_ratio_gives_status_1(measured, capsys):
    measured[0].entries["int8"].cpu_seconds = [0.6, 1.2, 0.6]

    assert bench.main(["ratios"]) == 1
    output = capsys.readouterr().out
    assert output.count("| failed |") == 1
    assert "| 0.600 | 0.26 | failed |" in output


@pytest.mark.parametrize(
    ("contender", "name", "value", "row"),
    [
        ("float32", "partitions", 2, "| ours, float32: delegate partitions | 2 | 1 | failed |"),
        ("float32", "partitions", None, "| ours, float32: delegate partitions | 0 | 1 | failed |"),
        ("int8", "partitions", 2, "| ours, dynamic int8: delegate partitions | 2 | 1 | failed |"),
        ("int8", "cosine", 0.998, "cosine to float32 | 0.998 | above 0.998 | failed |"),
        ("int8", "cosine", None, "cosine to float32 | nan | above 0.998 | failed |"),
    ],
)
def test_one_wrong_bundle_gives_status_1(contender, name, value, row, measured, capsys):
    setattr(measured[0].entries[contender], name, value)

    assert bench.main(["ratios"]) == 1
    output = capsys.readouterr().out
    assert output.count("| failed |") == 1
    assert row in output


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
def test_exported_bundles_have_the_properties(micro, tmp_path, monkeypatch):
    """As the command checks of `base`, whose export takes minutes."""
    monkeypatch.setattr("training.bench.encoder.REFERENCE", micro)
    outcome = compare_encoders(["float32", "int8"], micro, rounds=1, folder=tmp_path)

    assert [row.title for row in bundle_properties(outcome) if not row.passes] == []
