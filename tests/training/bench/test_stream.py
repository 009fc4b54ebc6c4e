"""The cost of listening by stage; unusable bundles are left out."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from edge import BundleContract, FrontEnd, StreamingClassifier, write_bundle
from edge.inference.bundle import TaggerContract
from edge.inference.interpreter import measure_probe
from training.bench.__main__ import main
from training.bench.listening import hear_windows_anew
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
    """Bundles with log-mel input, waveform input, and a tagger's embeddings, by input."""
    paths = {}
    for inputs in ("log_mel", "waveform", "embeddings"):
        graph = (DATA / f"tiny_{inputs}.tflite").read_bytes()
        tagger = (DATA / "tiny_tagger.tflite").read_bytes() if inputs == "embeddings" else None
        contract = BundleContract(
            front_end=FrontEnd(window_seconds=1.0),
            inputs=inputs,
            labels=("a", "b", "c", "d", "e"),
            prompts=("a", "b", "c", "d", "e"),
            embedding_dim=8,
            logit_scale=1.0,
            quantization="float32",
            tagger=tagger
            and TaggerContract(
                "tiny", hashlib.sha256(tagger).hexdigest(), 8000, 4000, embedding_dim=16, output=13
            ),
        )
        paths[inputs] = tmp_path / f"{inputs}.tflite"
        contract = replace(contract, probe=measure_probe(graph, contract, tagger))
        write_bundle(paths[inputs], graph, contract, tagger)
    return paths


def test_a_tagger_that_hears_windows_anew_gives_the_same_results(bundles, monkeypatch):
    sound = 0.1 * np.random.default_rng(0).standard_normal(70_000).astype(np.float32)
    results, heard = [], []
    for anew in (False, True):
        classifier = StreamingClassifier(bundles["embeddings"], hop_seconds=0.5)
        if anew:
            hear_windows_anew(classifier)
        tagger, calls = classifier._interpreter.tagger, []
        monkeypatch.setattr(
            tagger, "embed", lambda w, embed=tagger.embed, calls=calls: calls.append(w) or embed(w)
        )
        results.append([result.scores for result in classifier.push(sound)])
        heard.append(len(calls))
    np.testing.assert_allclose(*results, atol=1e-6)
    # Three windows of seven tagger windows, four of which are new in the second and the third.
    assert heard == [7 + 4 + 4, 3 * 7]


@pytest.mark.slow
def test_listeners_are_measured_by_stage(bundles, tmp_path, capsys):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    paths = [str(path) for path in (*bundles.values(), broken)]
    assert main(["stream", "--model", *paths, "--hop", "0.5", "--rounds", "1"]) == 0
    output = capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:2] == "| "]
    header, _, *table = lines[:6]
    assert header[-1] == "blocks left behind"
    measured = [dict(zip(header, row, strict=True)) for row in table]
    log_mel, waveform, once, anew = measured
    assert anew[header[0]] == "embeddings, hop 0.5 s, anew"
    assert min(float(once["network"]), float(anew["network"])) > 0
    name, *times, ratio, _, _ = lines[-1]
    assert name == "embeddings, hop 0.5 s"
    assert float(ratio.split()[0]) == pytest.approx(float(times[0]) / float(times[1]), abs=0.05)
    assert float(log_mel["log-mel"]) > 0
    assert float(waveform["log-mel"]) == 0.0, "the graph contains the front end"
    for row in measured:
        stages = [float(row[name]) for name in header[1:-3]]
        assert sum(stages) == pytest.approx(float(row["all"]), rel=0.01, abs=0.01)
        assert float(row["resample"]) > 0
        assert int(row["blocks left behind"]) < 500
    assert "left out: broken, hop 0.5 s: " in output


def test_a_missing_tagger_is_one_line(capsys):
    assert main(["stream", "--tagger", "nowhere.tflite"]) == 1
    error = "training.bench: error: nowhere.tflite cannot be read: No such file or directory\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize("arguments", [["--hop", "0"], ["--hop", "nan"], ["--rate", "x"]])
def test_wrong_arguments_give_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["stream", *arguments])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
