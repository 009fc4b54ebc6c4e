"""The comparison of encoders: contenders, tables and targets."""

import math
import os
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from training.bench import core, encoder
from training.bench.__main__ import main
from training.bench.encoder import CLAP_SIZE, Entry, Outcome
from training.bench.encoder_tables import encoder_table, target_table
from training.bench.inference import tagger_shape

ROOT = Path(__file__).parents[3]


def rows(output):
    """Cells of Markdown table rows, keyed by the first cell."""
    cells = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:2] == "| "]
    return {first: rest for first, *rest in cells}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_our_models_and_peers_are_measured(micro, tagger, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('onnxruntime is not here')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    contenders = ["--contenders", "float32", "int8", "torch", "onnx"]
    arguments = ["encoder", "--preset", micro, "--rounds", "1", "--peer", str(tagger)]
    monkeypatch.setattr("training.bench.encoder.REFERENCE", micro)
    assert main([*arguments, *contenders, "--tflite-python", "/nowhere/python"]) == 0
    output = capsys.readouterr().out
    table = rows(output)
    for title in ("ours, float32", "ours, dynamic int8", "Hugging Face on PyTorch (eager)"):
        assert float(table[title][1]) > 0, "CPU time"
        assert float(table[title][6]) > 20, "memory"
    assert table["ours, float32"][7] == "1", "one delegate partition"
    assert float(table["ours, dynamic int8"][8]) > 0.9, "cosine"
    assert table["Hugging Face on PyTorch (eager)"][3] == "1.00 (1.00 to 1.00)"
    assert tagger.name in output
    assert "left out: Hugging Face on ONNX Runtime: onnxruntime is not here" in output
    assert "left out: ours, float32, on tflite-runtime: " in output


@pytest.mark.slow
def test_peer_runs_in_onnx_runtime(micro, tmp_path, capsys):
    pytest.importorskip("transformers")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    contenders = ["--contenders", "float32", "onnx", "onnx-int8"]
    assert main(["encoder", "--preset", micro, "--rounds", "1", *contenders]) == 0
    table = rows(capsys.readouterr().out)
    assert float(table["Hugging Face on ONNX Runtime"][1]) > 0
    assert float(table["Hugging Face on ONNX Runtime, dynamic int8"][1]) > 0


def entry(title, *cpu_seconds, macs=10**9, **values):
    return Entry(title, [], 10.0, macs, cpu_seconds=list(cpu_seconds), **values)


@pytest.fixture
def outcome():
    entries = {
        "float32": entry("ours", 0.02, 0.03, 0.08, wall_seconds=[0.05] * 3),
        "int8": entry("ours int8", *[0.02] * 3, wall_seconds=[0.02] * 3, cosine=0.9985),
        "torch": entry("peer", 0.1, 0.1, 0.1, wall_seconds=[0.1] * 3),
    }
    rates = {"products": [1e11, 1e11, 1e12], "multiply-adds": [2e11] * 3}
    return Outcome(entries, {"other": "it is not here"}, rates, "2 sounds")


def test_ratios_are_taken_within_a_round_and_shares_of_the_highest_rate(outcome):
    text = encoder_table(outcome)
    ours = rows(text)["ours"]
    assert ours[:5] == ["1", "30.00", "50.00", "0.30 (0.20 to 0.80)", "33 %"]
    assert "left out: other: it is not here" in text


def test_targets_are_reached_or_missed(outcome):
    text = target_table(outcome, "base")
    assert "| ours against peer | ≤ 0.4 | 0.3 | reached |" in text
    assert "| ours int8 against peer | ≤ 0.18 | 0.2 | missed |" in text
    assert "share of the core's multiply-adds | ≥ 0.7 | 0.3333 | missed |" in text
    assert "| ours int8: cosine to float32 | ≥ 0.999 | 0.9985 | missed |" in text
    assert target_table(Outcome({}, {}, {}, ""), "base") == ""


@pytest.mark.slow
def test_clap_has_the_published_size():
    tower = encoder.random_model(CLAP_SIZE).audio_tower
    assert tower.count_params() == 27_534_616 + 656_384  # HTS-AT and its MLP
    assert (tower.front_end.sample_rate_hz, tower.front_end.num_frames) == (48_000, 1001)
    assert tower.embedding_dim == 512


def test_clap_has_no_target_against_base(outcome):
    outcome.entries["base"] = outcome.entries.pop("torch")
    assert "against base" in target_table(outcome, "small")
    assert "against base" not in target_table(outcome, CLAP_SIZE)


def test_work_of_a_tagger_counts_all_its_invocations(outcome):
    outcome.entries["tagger"] = entry("tagger", *[0.1] * 3, wall_seconds=[0.1] * 3, invocations=5)
    assert rows(encoder_table(outcome))["tagger (5 runs)"][0] == "5"


@pytest.mark.parametrize(
    ("signature", "shape"),
    [([-1], [160]), ([15], [15]), ([-1, 15], [1, 15]), ([1, -1], [1, 160]), ([1, -1, 64], None)],
)
def test_dynamic_lengths_take_all_the_sound(signature, shape):
    assert tagger_shape(signature, 160) == (shape or [1, 160, 64])


def test_the_core_has_rates(monkeypatch):
    monkeypatch.setattr(core, "_TURN_SECONDS", 0.01)
    try:
        fused = core.FusedMultiplyAdds()
    except OSError as error:
        pytest.skip(str(error))
    assert 0 < fused.flops_per_second() < math.inf
    assert 0 < core.product_flops_per_second() < math.inf


@pytest.mark.parametrize(
    "arguments", [["--contenders", "nobody"], ["--rounds", "0"], ["--preset", "huge"]]
)
def test_wrong_arguments_give_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["encoder", *arguments])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
