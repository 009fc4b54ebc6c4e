"""A tagger's scores as one vector for each clip."""

import keras
import numpy as np
import pytest
import soundfile

from semanticac_keras import ClassOdds, Tagger, TaggerTower
from semanticac_keras.class_odds import measure_background
from tests.clips import make_clips

RATE_HZ = 32_000


def log_odds(scores):
    """Logarithm of the mean odds over the axis before the last."""
    scores = np.clip(np.asarray(scores, np.float64), 1e-5, 1 - 1e-5)
    return np.log((scores / (1 - scores)).mean(axis=-2))


@pytest.mark.parametrize("root", [2, 4])
def test_values_are_roots_of_odds_over_those_of_the_background(root):
    scores = np.random.default_rng(0).uniform(size=(3, 4, 1, 5)).astype(np.float32)
    scores[0, :, 0, 0], scores[0, :, 0, 1] = 0.0, 1.0  # as a tagger of integers may give
    head = ClassOdds(5, root)
    head.build(scores.shape)
    usual = np.array([0.5, 0.01, 1.0, 3.0, 2e-4], np.float32)
    for background in (np.ones(5, np.float32), usual):
        head.background.assign(background)
        found = keras.ops.convert_to_numpy(head(scores))
        expected = np.exp((log_odds(scores[:, :, 0]) - np.log(background)) / root)
        # In float32, 1 - 1e-5 is off by up to 3e-8, so that its odds are off by 0.3 %.
        np.testing.assert_allclose(found[:, :5], expected, rtol=2e-3)
        np.testing.assert_array_equal(found[:, 5], 0.0)
    assert not head.trainable_variables


@pytest.fixture
def tower(tiny_tagger):
    """A tower whose windows of a second hold two of the tagger's."""
    tagger = Tagger(tiny_tagger, RATE_HZ)
    return TaggerTower.from_tagger(tagger, ClassOdds(3), window_seconds=1.0, scores=True)


def test_the_background_is_the_mean_over_windows_of_all_recordings(
    tower, tiny_tagger, tmp_path, monkeypatch
):
    monkeypatch.setattr("semanticac_keras.class_odds._WINDOWS_AT_ONCE", 2)
    clips, _ = make_clips(3, RATE_HZ, RATE_HZ)
    soundfile.write(tmp_path / "long.wav", np.concatenate(clips[:2]), RATE_HZ, subtype="FLOAT")
    measure_background(tower, [tmp_path / "long.wav", clips[2]])
    tagger = Tagger(tiny_tagger, RATE_HZ)
    logs = [
        log_odds(np.concatenate([tagger.hear(clip[i:][:8000], RATE_HZ)[0] for i in (0, 16_000)]))
        for clip in clips
    ]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(tower.head.background),
        np.exp(np.mean(logs, axis=0)),
        rtol=1e-4,
    )


def test_an_unreadable_recording_is_named(tower, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.wav: "):
        measure_background(tower, [tmp_path / "gone.wav"])


def test_other_roots_are_refused():
    with pytest.raises(ValueError, match=r"`root` must be 2 or 4\. Received: 3"):
        ClassOdds(5, root=3)
