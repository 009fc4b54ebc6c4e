"""The synthetic dataset: reproducible, varied, and learnable."""

import numpy as np
import pytest
import soundfile

from training.datasets import load_dataset
from training.datasets.demo import (
    CLIPS_PER_LABEL_AND_FOLD,
    DURATION_SECONDS,
    LABELS,
    NUM_FOLDS,
    render,
    write_example_wav,
)

# Mean absolute sample of clip 7 of fold 3 of each label.
EXPECTED_LEVELS = [
    0.0696601,
    0.0815029,
    0.056116,
    0.00075124,
    0.0538233,
    0.0129518,
    0.00609625,
    0.0472119,
    0.0566271,
    0.0313482,
]


def spectrum(waveform):
    """Mean and deviation over time of the log energy in 16 octave-spaced bands."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 1024)[::512] * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(2, 448, 17).astype(int))
    bands = np.log10(np.add.reduceat(power, edges, axis=1) + 1e-6)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])


def test_counts_and_metadata():
    dataset = load_dataset("demo")
    assert len(dataset.labels) >= 8
    assert dataset.folds == tuple(range(1, NUM_FOLDS + 1))
    assert len(dataset.clips) == len(LABELS) * NUM_FOLDS * CLIPS_PER_LABEL_AND_FOLD
    train, test = dataset.split(2)
    assert len(test) * NUM_FOLDS == len(train) + len(test)
    with pytest.raises(ValueError, match="demo has no files"):
        load_dataset("demo", "somewhere")


@pytest.mark.parametrize("label", LABELS)
def test_sounds_are_finite_bounded_and_reproducible(label):
    first, second, again = render(label, 1, 0), render(label, 1, 1), render(label, 1, 0)
    assert first.dtype == np.float32
    assert len(first) == DURATION_SECONDS * 32_000
    assert np.isfinite(first).all()
    assert 0.1 < np.abs(first).max() < 1.0
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first, second)[0, 1]) < 0.5


def test_sounds_are_the_same_on_every_machine():
    """Recorded values; sin and exp may differ in the last bits between platforms."""
    found = [float(np.abs(render(label, 3, 7)).mean()) for label in LABELS]
    np.testing.assert_allclose(found, EXPECTED_LEVELS, rtol=1e-4)


def test_other_rates_have_the_same_duration():
    dataset = load_dataset("demo")
    (waveform,) = dataset.load([0], sample_rate_hz=44_100)
    assert len(waveform) == DURATION_SECONDS * 44_100


@pytest.mark.slow
def test_a_linear_classifier_needs_more_than_a_coarse_spectrum():
    dataset = load_dataset("demo")
    train, test = dataset.split(5)
    train = train[::2]
    labels = np.array([clip.label for clip in dataset.clips])
    x_train = np.array([spectrum(waveform) for waveform in dataset.load(train)])
    x_test = np.array([spectrum(waveform) for waveform in dataset.load(test)])
    mean, scale = x_train.mean(axis=0), x_train.std(axis=0)

    def accuracy(columns):
        fit, check = (
            np.c_[((x - mean) / scale)[:, columns], np.ones(len(x))] for x in (x_train, x_test)
        )
        targets = np.eye(len(LABELS))[labels[train]]
        weights = np.linalg.solve(fit.T @ fit + np.eye(fit.shape[1]), fit.T @ targets)
        return np.mean((check @ weights).argmax(axis=1) == labels[test])

    assert accuracy(slice(None)) > 0.85
    assert accuracy(slice(0, 16, 4)) < 0.75


def test_example_wav_is_a_sound_outside_the_dataset(tmp_path):
    path = tmp_path / "siren.wav"
    write_example_wav(path, "siren", seed=3)
    samples, sample_rate_hz = soundfile.read(path, dtype="float32")
    assert sample_rate_hz == 32_000
    np.testing.assert_allclose(samples, render("siren", 0, 3), atol=2**-15)
    with pytest.raises(ValueError, match="Received: 'whale'"):
        write_example_wav(path, "whale")
