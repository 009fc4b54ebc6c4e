"""Pretraining: what the student learns, and a run that stops and goes on."""

from dataclasses import asdict, replace

import keras
import numpy as np
import pytest

from semanticac_keras import AudioTower, load_pretrained, presets
from semanticac_keras.pretrained import TextSpace
from tests import micro
from training.pretraining import learning
from training.pretraining.batches import CropBatches
from training.pretraining.learning import Plan, pretrain, weights_of
from training.pretraining.student import Student
from training.runs.run import Run

PLAN = Plan(preset=micro.NAME, epochs=2, steps_per_epoch=3, batch_size=4, optimizer="adamw")


@pytest.fixture(autouse=True)
def micro_preset(monkeypatch) -> None:
    monkeypatch.setitem(presets.PRESETS, micro.NAME, micro.PRESET)


@pytest.fixture
def space(targets) -> TextSpace:
    vectors = np.random.default_rng(0).standard_normal((targets.num_scores, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = tuple(f"class {i}" for i in range(targets.num_scores))
    return TextSpace(names, vectors.astype(np.float32), np.zeros(16, np.float32))


def learn(directory, corpus, targets, space, plan=PLAN, labelled=None):
    teachers = targets if isinstance(targets, list) else [targets]
    run = Run(directory)
    about = {"plan": asdict(plan), "corpus": {"hours": 1.0, "may_ship": True}}
    if not run.config.exists():
        run.start({**about, "teacher": {"name": "tagger.tflite"}})
    pretrain(plan, corpus, teachers, space, run, about, labelled)
    return load_pretrained(weights_of(run)), run.read_history()


@pytest.mark.slow
def test_student_learns(eager, tmp_path, corpus, targets, space) -> None:
    plan = replace(PLAN, steps_per_epoch=4, warmup_epochs=0, learning_rate=3e-2, averaged=0.01)
    pretrained, rows = learn(tmp_path, corpus, targets, space, plan)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    waveform = np.zeros((1, micro.PRESET.front_end.window_samples), np.float32)
    embedding = pretrained.audio_tower(waveform)
    assert embedding.shape == (1, 16)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)
    assert pretrained.space.names == space.names
    assert pretrained.bias != pytest.approx(-8.0, abs=1e-3)
    assert pretrained.about["corpus"]["hours"] == 1.0
    assert pretrained.about["figures"]["epoch"] == rows[-1]["epoch"] == 2
    assert pretrained.about["figures"]["top5"] == rows[-1]["top5"]

    report = (tmp_path / "report.md").read_text()
    assert report.count(" | 3 | ") == 2  # all sources, and the only one
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.slow
def test_student_learns_from_several_teachers(eager, tmp_path, corpus, both_targets, space) -> None:
    plan = replace(PLAN, steps_per_epoch=4, warmup_epochs=0, learning_rate=3e-2, averaged=0.01)
    _, rows = learn(tmp_path, corpus, both_targets, space, plan)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


@pytest.mark.slow
def test_the_weights_of_the_best_epoch_on_labelled_clips_are_kept(
    eager, tmp_path, corpus, targets, space, monkeypatch
) -> None:
    values, read = iter([0.5, 0.75, 0.625]), []
    monkeypatch.setattr(learning, "probe_accuracy", lambda tower, dataset, clips: next(values))
    monkeypatch.setattr(learning, "load_clips", lambda dataset, rate_hz: read.append(rate_hz))
    plan = replace(PLAN, epochs=3, steps_per_epoch=1)
    pretrained, rows = learn(tmp_path, corpus, targets, space, plan, labelled=object())
    assert [row["probe_accuracy"] for row in rows] == [0.5, 0.75, 0.625]
    assert read == [micro.PRESET.front_end.sample_rate_hz]
    assert pretrained.about["figures"]["epoch"] == 2
    assert "has the weights of epoch 2" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_averaged_weights_have_statistics_of_their_own(eager, corpus, targets, space) -> None:
    batches = CropBatches(
        [targets], corpus.indices("train"), micro.PRESET.front_end, 4, mixing=PLAN.mixing
    )
    tower = AudioTower.from_preset(micro.NAME, output_dim=16, stem_channels=(4, 8))
    student = Student(tower, space.vectors, [(targets.embedding_dim, targets.grid)])
    student.compile(replace(PLAN, averaged=1.0).make_optimizer())
    batch = batches.batch(0)
    student.fit(batch.log_mels, batch.answers, verbose=0)
    # Averages from before the last step, which multiplies the first convolution by 5.
    conv, norm = tower.encoder.patch_embed.convs[0], tower.encoder.patch_embed.norms[0]
    conv.kernel.assign(5.0 * conv.kernel)
    for _ in range(30):
        student(batch.log_mels, training=True)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in student.weights]
    with learning.averaged_weights(student, batches):
        variances = keras.ops.convert_to_numpy(norm.moving_variance).copy()
    for weight, value in zip(student.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
    ratios = keras.ops.convert_to_numpy(norm.moving_variance) / variances
    assert (ratios > 5.0).all()  # 25 with the same input; 1 if nothing was renewed


@pytest.mark.slow
def test_a_stopped_run_ends_like_an_undisturbed_one(
    eager, tmp_path, corpus, targets, space, monkeypatch
) -> None:
    whole, rows = learn(tmp_path / "whole", corpus, targets, space)
    calls = []
    compare = learning.compare

    def stop_in_the_second_epoch(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compare(*arguments)

    monkeypatch.setattr(learning, "compare", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "stopped", corpus, targets, space)
    monkeypatch.setattr(learning, "compare", compare)
    resumed, resumed_rows = learn(tmp_path / "stopped", corpus, targets, space)
    for a, b in zip(
        whole.audio_tower.get_weights(), resumed.audio_tower.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5)
    assert [row["epoch"] for row in resumed_rows] == [row["epoch"] for row in rows]
    assert resumed_rows[-1]["loss"] == pytest.approx(rows[-1]["loss"], rel=1e-4)
