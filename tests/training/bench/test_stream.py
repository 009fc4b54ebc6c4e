"""The cost of listening by stage; unusable bundles are left out."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("keras")

from edge import BundleContract, FrontEnd, write_bundle
from edge.inference.interpreter import measure_probe
from training.bench.__main__ import main
from training.bench.stages import OUTSIDE, Stages

DATA = Path(__file__).parents[2] / "data"


class Worker:
    """Advances a fake CPU clock."""

    def __init__(self):
        self.clock = 5.0

    def work(self, seconds):
        self.clock += seconds
        return seconds


@pytest.fixture
def worker(monkeypatch):
    worker = Worker()
    monkeypatch.setattr("training.bench.stages.time.thread_time", lambda: worker.clock)
    return worker


def test_time_counts_towards_the_innermost_stage(worker):
    stages = Stages(("outer", "inner"))
    worker.work(4.0)
    stages.start()
    with stages.stage("outer"):
        worker.work(2.0)
        with stages.stage("inner"):
            worker.work(5.0)
        worker.work(1.0)
    worker.work(0.25)
    assert stages.seconds() == {"outer": 3.0, "inner": 5.0, OUTSIDE: 0.25}


def test_a_watched_method_counts_towards_its_stage(worker):
    stages = Stages(("outer", "inner"))
    stages.watch(worker, "work", "inner")
    with stages.stage("outer"):
        assert worker.work(3.0) == 3.0
    assert stages.seconds() == {"outer": 0.0, "inner": 3.0, OUTSIDE: 0.0}


def test_memory_left_behind_is_counted():
    stages, kept = Stages(()), []
    stages.start()
    kept += [object() for _ in range(1000)]
    # Within some other blocks, which the interpreter may free or allocate meanwhile.
    assert 900 < stages.new_blocks() < 1500


@pytest.fixture
def bundles(tmp_path):
    """A bundle with log-mel input and one with waveform input."""
    paths = []
    for inputs in ("log_mel", "waveform"):
        graph = (DATA / f"tiny_{inputs}.tflite").read_bytes()
        contract = BundleContract(
            front_end=FrontEnd(window_seconds=1.0),
            inputs=inputs,
            labels=("a", "b", "c", "d", "e"),
            prompts=("a", "b", "c", "d", "e"),
            embedding_dim=8,
            logit_scale=1.0,
            quantization="float32",
        )
        paths.append(tmp_path / f"{inputs}.tflite")
        write_bundle(paths[-1], graph, replace(contract, probe=measure_probe(graph, contract)))
    return paths


@pytest.mark.slow
def test_listeners_are_measured_by_stage(bundles, tmp_path, capsys):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    paths = [str(path) for path in (*bundles, broken)]
    assert main(["stream", "--model", *paths, "--hop", "0.5", "--rounds", "1"]) == 0
    output = capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:2] == "| "]
    header, *table = lines[:4]
    assert header[-1] == "blocks left behind"
    log_mel, waveform = (dict(zip(header, row, strict=True)) for row in table[1:3])
    assert float(log_mel["log-mel"]) > 0
    assert float(waveform["log-mel"]) == 0.0, "the graph contains the front end"
    for row in (log_mel, waveform):
        stages = [float(row[name]) for name in header[1:-3]]
        assert sum(stages) == pytest.approx(float(row["all"]), rel=0.01, abs=0.01)
        assert float(row["resample"]) > 0
        assert int(row["blocks left behind"]) < 500
    assert "left out: broken, hop 0.5 s: " in output


@pytest.mark.parametrize("arguments", [["--hop", "0"], ["--hop", "nan"], ["--rate", "x"]])
def test_wrong_arguments_give_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["stream", *arguments])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
