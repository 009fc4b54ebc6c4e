"""Pretraining: what the student learns, and a run that stops and goes on."""

from dataclasses import replace

import numpy as np
import pytest

from semanticac_keras import presets
from tests import micro
from training.pretraining import learning
from training.pretraining.learning import Plan, pretrain
from training.runs.run import Run

PLAN = Plan(preset=micro.NAME, epochs=2, steps_per_epoch=3, batch_size=4, optimizer="adamw")


@pytest.fixture(autouse=True)
def micro_preset(monkeypatch) -> None:
    monkeypatch.setitem(presets.PRESETS, micro.NAME, micro.PRESET)


@pytest.fixture
def vectors(targets) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((targets.num_scores, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def learn(directory, corpus, targets, vectors, plan=PLAN):
    run = Run(directory)
    directory.mkdir(exist_ok=True)
    return pretrain(plan, corpus, targets, vectors, run), run.read_history()


@pytest.mark.slow
def test_student_learns(eager, tmp_path, corpus, targets, vectors) -> None:
    plan = replace(PLAN, steps_per_epoch=4, warmup_epochs=0, learning_rate=3e-2, ema_momentum=0.0)
    student, rows = learn(tmp_path, corpus, targets, vectors, plan)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    waveform = np.zeros((1, micro.PRESET.front_end.window_samples), np.float32)
    embedding = student.tower(waveform)
    assert embedding.shape == (1, 16)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_a_stopped_run_ends_like_an_undisturbed_one(
    eager, tmp_path, corpus, targets, vectors, monkeypatch
) -> None:
    whole, rows = learn(tmp_path / "whole", corpus, targets, vectors)
    calls = []
    judge = learning.agreement

    def stop_in_the_second_epoch(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(learning, "agreement", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "stopped", corpus, targets, vectors)
    monkeypatch.setattr(learning, "agreement", judge)
    resumed, resumed_rows = learn(tmp_path / "stopped", corpus, targets, vectors)
    for a, b in zip(whole.tower.get_weights(), resumed.tower.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert [row["epoch"] for row in resumed_rows] == [row["epoch"] for row in rows]
    assert resumed_rows[-1]["loss"] == pytest.approx(rows[-1]["loss"], rel=1e-4)
