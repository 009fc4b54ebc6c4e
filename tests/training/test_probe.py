"""Linear probes of frozen towers."""

import json

import keras
import numpy as np
import pytest

from semanticac_keras import SemanticAC
from tests.pretrained_files import write_pretrained
from training import probe
from training.runs import probing
from training.runs.run import Run

pytest.importorskip("sklearn")
pytest.importorskip("tensorflow")


@pytest.fixture
def line(micro, folder, tmp_path):
    """Command line for a pretrained tower on the folder: two classes of five clips."""
    tower = write_pretrained(tmp_path / "tower.npz")
    data = ["--dataset", "folder", "--data-dir", str(folder)]
    return [*data, "--weights", str(tower), "--out", str(tmp_path / "probe.json")]


@pytest.fixture
def separable(monkeypatch):
    """Make the first feature tell the two classes apart, but for one clip."""

    def of(cls, tower, dataset, clips, progress):
        truth = dataset.truth(range(len(dataset.clips)))
        first = np.where(truth == 1, 1.0, -1.0)
        first[0] = 1.0
        return cls(np.stack([first, np.zeros(len(truth))], 1).astype(np.float32), truth)

    monkeypatch.setattr(probing.Features, "of", classmethod(of))


def results(tmp_path):
    return json.loads((tmp_path / "probe.json").read_text())


def test_each_clip_is_tested_once(line, separable, tmp_path, capsys):
    assert probe.main(line) == 0
    figures = results(tmp_path)
    assert sorted(figures["accuracy_by_fold"].values())[0] < 1.0
    assert sorted(figures["accuracy_by_fold"].values())[1:] == [1.0] * (
        len(figures["accuracy_by_fold"]) - 1
    )
    assert figures["std_over_draws"] is None
    assert "trained on all clips of the other folds" in capsys.readouterr().out


def test_few_clips_are_drawn_anew(line, separable, tmp_path, monkeypatch, capsys):
    drawn = []
    accuracy = probing.Features.accuracy

    def record(self, train, test):
        drawn.append((sorted(train.tolist()), self.truth[train].tolist(), set(train) & set(test)))
        return accuracy(self, train, test)

    monkeypatch.setattr(probing.Features, "accuracy", record)
    assert probe.main([*line, "--clips-per-class", "2", "--draws", "3"]) == 0
    folds = len(results(tmp_path)["accuracy_by_fold"])
    assert len(drawn) == 3 * folds
    for _, labels, shared in drawn:
        assert np.bincount(labels).tolist() == [2, 2]
        assert not shared
    assert len({tuple(clips) for clips, *_ in drawn[:3]}) > 1
    assert "2 clips a class, 3 draws a fold" in capsys.readouterr().out
    again = drawn.copy()
    drawn.clear()
    probe.main([*line, "--clips-per-class", "2", "--draws", "3"])
    assert drawn == again


def test_features_are_mean_and_maximum_over_time_of_each_band(line, folder, tmp_path):
    tower = probe.load_tower(str(tmp_path / "tower.npz"))
    dataset = probe.load_dataset("folder", folder)
    clips = probe.load_clips(dataset, tower.front_end.sample_rate_hz)
    features = probing.Features.of(tower, dataset, clips)
    np.testing.assert_array_equal(features.truth, [clip.labels[0] for clip in dataset.clips])
    clip = clips[3]
    maps = keras.ops.convert_to_numpy(tower.token_map(tower.windows_of([clip])[0]))
    rows, dim = maps.shape[1], maps.shape[3]
    chunks = tower.encoder.num_chunks
    assert chunks == 2  # the upper half of the rows, and after it in time the lower half
    bands = np.concatenate([maps[:, : rows // 2], maps[:, rows // 2 :]], axis=2)
    expected = np.concatenate([bands.mean(2), bands.max(2)], axis=-1).mean(axis=0).ravel()
    assert len(expected) == 2 * (rows // chunks) * dim
    np.testing.assert_allclose(features.values[3], expected, rtol=1e-4, atol=1e-5)


def test_own_models_and_taggers_have_a_tower(micro, tmp_path, tiny_tagger):
    SemanticAC.from_preset(micro, ["a", "b"]).save(tmp_path / "model.keras")
    assert probe.load_tower(str(tmp_path)).front_end.sample_rate_hz == 8000
    tower = probe.load_tower(str(tiny_tagger), 32_000)
    waveform = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    embeddings = tower.inputs_of(tower.windows_of([waveform])[0])
    token_map = keras.ops.convert_to_numpy(tower.token_map(embeddings))
    np.testing.assert_allclose(token_map[:, :, 0], embeddings, rtol=1e-3, atol=1e-4)


def test_what_would_be_no_test_is_one_line(line, folder, tmp_path, micro, monkeypatch, capsys):
    at = line.index("--weights") + 1
    line[at] = "nowhere.bin"
    assert probe.main(line) == 1
    assert "must be pretrained, a .tflite tagger, a .keras file" in capsys.readouterr().err
    run = Run(tmp_path / "run")
    run.start({}, clips=probe.load_dataset("folder", folder).listing())
    SemanticAC.from_preset(micro, ["a", "b"]).save(run.model)
    line[at] = str(run.directory)
    assert probe.main(line) == 1
    assert "--weights was trained on 10 of the 10 clips" in capsys.readouterr().err
    monkeypatch.setattr(probing, "find_spec", lambda name: None)
    assert probe.main(line) == 1
    assert "pip install 'semanticac-keras[probe]'" in capsys.readouterr().err
    assert not (tmp_path / "probe.json").exists()
