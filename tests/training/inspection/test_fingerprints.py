"""Fingerprints find copies of a sound, and tell similar sounds apart."""

import numpy as np
import pytest
import soundfile

from semanticac_keras.sound_files import read_waveform, resample
from training.inspection import fingerprints
from training.inspection.fingerprints import (
    SAMPLE_RATE_HZ,
    THRESHOLD,
    fingerprint,
    similar_pairs,
)


def bursts(seed, seconds=3.0, rate_hz=32_000):
    """Coloured noise whose colour and loudness change four times a second."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, seconds, 0.25)
    parts = []
    for _ in times:
        noise = rng.standard_normal(rate_hz // 4)
        parts.append(rng.uniform(0.02, 0.2) * np.convolve(noise, rng.standard_normal(8), "same"))
    return np.concatenate(parts).clip(-1, 1).astype(np.float32)


def pair(waveform, other, rate_hz=32_000):
    prints = [fingerprint(resample(w, rate_hz, SAMPLE_RATE_HZ)) for w in (waveform, other)]
    return similar_pairs(prints, threshold=-1.0)[0].similarity


def encoded(waveform, path, rate_hz=32_000):
    soundfile.write(path, waveform, rate_hz)
    return read_waveform(path, rate_hz)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac"])
@pytest.mark.parametrize("shift_seconds", [0.0, 0.13, 0.45])
def test_an_encoded_quieter_shifted_copy_is_found(tmp_path, suffix, shift_seconds):
    original = bursts(0)
    shifted = original[round(shift_seconds * 32_000) :]
    copy = encoded(0.1 * shifted, tmp_path / f"copy.{suffix}")
    assert pair(original, copy) > THRESHOLD
    assert pair(copy, original) > THRESHOLD


def test_a_copy_at_another_rate_is_found():
    original = bursts(0)
    copy = resample(resample(original, 32_000, 11_025), 11_025, 32_000)
    assert pair(original, copy) > THRESHOLD


def test_other_sounds_of_the_same_kind_are_far_from_the_threshold(monkeypatch):
    monkeypatch.setattr(fingerprints, "_BLOCK", 16)
    prints = [fingerprint(bursts(seed, 1.0, SAMPLE_RATE_HZ)) for seed in range(50)]
    prints[44] = prints[3]  # in another block
    (found, *others) = similar_pairs(prints, threshold=0.0)
    assert found[:2] == (3, 44)
    assert found.similarity == pytest.approx(1.0, abs=1e-5)
    assert others[0].similarity < 0.6 * THRESHOLD
    assert similar_pairs(prints) == [found]


@pytest.mark.parametrize(
    "waveform",
    [np.zeros(16_000), np.full(16_000, 0.5), np.ones(1), 0.1 * np.eye(1, 16_000, 800)[0]],
    ids=["silence", "constant", "sample", "click"],
)
def test_clips_with_almost_no_sound_equal_nothing(waveform):
    prints = [fingerprint(waveform.astype(np.float32))] * 2
    assert similar_pairs(prints) == []


def test_no_clips_have_no_pairs():
    assert similar_pairs([]) == []
