"""The race of train steps: contenders, table and errors. Speed itself is not tested."""

import os
from pathlib import Path

import numpy as np
import pytest

from edge.inference.frontend import log_mel
from semanticac_keras.presets import PRESETS
from training.bench.__main__ import main, make_workload
from training.bench.contenders import ContenderError
from training.bench.race import Result, trainer
from training.bench.tables import train_table

ROOT = Path(__file__).parents[3]


@pytest.fixture
def on_path(monkeypatch):
    """`on_path(*directories)` sets the import path of contenders, with the project last."""

    def on_path(*directories):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (*directories, ROOT))))

    on_path()
    return on_path


def rows(output):
    """Cells of Markdown table rows, keyed by the first cell."""
    cells = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:2] == "| "]
    return {first: rest for first, *rest in cells}


@pytest.mark.slow
def test_train_steps_of_our_model_and_the_peer_are_measured(micro, on_path, tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    (tmp_path / "jax.py").write_text("raise ImportError('JAX is not here')")
    on_path(tmp_path)
    arguments = ["--preset", micro, "--batch-size", "4", "--rounds", "1"]
    contenders = ["--contenders", "peer-eager", "jax", "torch-eager"]
    assert main(["train", *arguments, "--precision", "mixed_bfloat16", *contenders]) == 0
    output = capsys.readouterr().out
    table = rows(output)
    ours, peer = (
        table[f"{name} (eager)"] for name in ("ours, Keras on PyTorch", "Hugging Face on PyTorch")
    )
    assert ours[1] == peer[1], "the same number of parameters"
    assert peer[4] == "1.00 (1.00 to 1.00)"
    assert float(ours[3]) > 0
    assert float(ours[5].rstrip(" %")) > 0
    assert "left out: ours, Keras on JAX: JAX is not here" in output
    assert "train --preset micro --batch-size 4" in output
    assert "TFLOP a step" in output


def test_log_mel_of_the_peer_equals_ours(micro):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from training.bench.torch_step import LogMel

    front_end = PRESETS[micro].front_end
    waveforms = make_workload(micro, 2, "float32").waveforms()
    result = LogMel(front_end)(torch.from_numpy(waveforms)).numpy()
    # Noise has no empty bins, so the only difference is float32 rounding in two transforms.
    np.testing.assert_allclose(result[1], log_mel(waveforms[1], front_end), atol=1e-3)


def test_ratios_are_taken_within_a_round(micro):
    workload = make_workload(micro, 4, "float32")
    results = [
        Result("jax", "cpu", 10, None, [2.0, 40.0, 6.0], [1e12] * 3),
        Result("peer-eager", "cpu", 10, 10**12, [1.0, 10.0, 2.0], [2e12] * 3),
    ]
    ours, peer = list(rows(train_table(workload, results, {})).values())[2:]
    assert ours == ["cpu", "10", "666.7", "6.00", "3.00 (2.00 to 4.00)", "75 %"]
    assert peer[-1] == "25 %"


def test_a_contender_that_dies_reports_its_status(on_path, tmp_path):
    (tmp_path / "jax.py").write_text("import os; os._exit(3)")
    on_path(tmp_path)
    contender = trainer("jax")
    contender.send("{}")
    with pytest.raises(ContenderError, match="ended with status 3"):
        contender.receive()
    contender.close()


@pytest.mark.parametrize(
    "arguments", [["train", "--preset", "huge"], ["train", "--rounds", "0"], []]
)
def test_wrong_arguments_give_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
