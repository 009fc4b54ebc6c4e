"""What listening costs is told by stage, and a bundle that cannot be heard with is left out."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from edge import BundleContract, FrontEnd, write_bundle
from edge.inference.interpreter import measure_probe
from training.bench.__main__ import main
from training.bench.stages import OUTSIDE, Stages

DATA = Path(__file__).parents[2] / "data"


def spend(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_time_belongs_to_the_innermost_stage():
    stages = Stages(("outer", "inner"))
    with stages.stage("outer"):
        spend(0.02)
        with stages.stage("inner"):
            spend(0.05)
        spend(0.01)
    spent = stages.seconds()
    # It is this thread's own time: others do not disturb it.
    assert spent["outer"] == pytest.approx(0.03, abs=0.005)
    assert spent["inner"] == pytest.approx(0.05, abs=0.005)
    assert spent[OUTSIDE] < 0.005


def test_memory_belongs_to_the_innermost_stage():
    class Worker:
        def work(self, kilobytes):
            return len(np.ones(1024 * kilobytes, np.uint8))

    stages, worker, kept = Stages(("outer", "inner")), Worker(), []
    stages.watch(worker, "work", "inner")
    stages.counts_memory = True
    stages.start()
    with stages.stage("outer"):
        worker.work(100)
        worker.work(300)
        worker.work(200)
    most = stages.most_bytes()
    assert 300 * 1024 <= most["inner"] < 310 * 1024
    assert most["outer"] < 10 * 1024
    kept += [object() for _ in range(1000)]
    assert 1000 <= stages.new_blocks() < 1500


@pytest.fixture
def bundles(tmp_path):
    """One that takes log-mels, and one that takes a waveform."""
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


def test_a_listener_by_stage(bundles, tmp_path, capsys):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    paths = [str(path) for path in (*bundles, broken)]
    assert main(["stream", "--model", *paths, "--hop", "0.5", "--rounds", "1"]) == 0
    output = capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:2] == "| "]
    header, *table = lines[:4]
    log_mel, waveform = (dict(zip(header, row, strict=True)) for row in table[1:3])
    assert float(log_mel["log-mel"]) > 0.1
    assert float(waveform["log-mel"]) == 0.0, "its graph has the front end"
    for row in (log_mel, waveform):
        stages = [float(row[name]) for name in header[1:-2]]
        assert sum(stages) == pytest.approx(float(row["all"]), rel=0.01, abs=0.01)
        assert float(row["resample"]) > 0.05
    assert "left out: broken, hop 0.5 s: " in output


@pytest.mark.parametrize("arguments", [["--hop", "0"], ["--hop", "nan"], ["--rate", "x"]])
def test_wrong_arguments_are_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["stream", *arguments])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
