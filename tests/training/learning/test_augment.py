import numpy as np
import pytest

from training.learning.augment import Augmentation, augment, mix


def rng(seed=0):
    return np.random.default_rng(seed)


RAMP = np.arange(1000, dtype=np.float32)


def test_by_default_a_clip_of_window_length_is_unchanged():
    np.testing.assert_array_equal(augment(RAMP, 1000, Augmentation(), rng()), RAMP)


def test_a_longer_clip_is_cropped_at_any_position():
    starts = {int(augment(RAMP, 990, Augmentation(), rng(seed))[0]) for seed in range(200)}
    assert starts == set(range(11))


def test_a_shorter_clip_is_repeated():
    np.testing.assert_array_equal(
        augment(RAMP[:300], 1000, Augmentation(), rng()), np.resize(RAMP[:300], 1000)
    )


def test_a_shorter_clip_can_be_repeated_whole_before_silence():
    result = augment(RAMP[:300] + 1, 1000, Augmentation(), rng(), whole_repeats=True)
    np.testing.assert_array_equal(result, [*np.tile(RAMP[:300] + 1, 3), *np.zeros(100)])


def test_time_flip_has_its_probability():
    flipped = [
        augment(RAMP, 1000, Augmentation(time_flip=0.3), rng(seed))[0] == 999 for seed in range(500)
    ]
    assert 0.24 < np.mean(flipped) < 0.36


def test_time_scale_changes_pitch_within_its_limit():
    seconds = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    peaks = []
    for seed in range(40):
        scaled = augment(tone, 8000, Augmentation(time_scale=1.5), rng(seed))
        assert scaled.shape == (8000,)
        peaks.append(np.abs(np.fft.rfft(scaled)).argmax())
    assert 1000 / 1.5 - 5 <= min(peaks) < 800
    assert 1250 < max(peaks) <= 1500 + 5


@pytest.mark.parametrize("snr_db", [10.0, 30.0])
def test_noise_has_the_requested_ratio(snr_db):
    tone = np.sin(np.arange(20_000, dtype=np.float32))
    noisy = augment(tone, 20_000, Augmentation(noise=1.0, noise_snr_db=(snr_db, snr_db)), rng())
    measured = 10 * np.log10(np.mean(tone**2) / np.mean((noisy - tone) ** 2))
    assert measured == pytest.approx(snr_db, abs=0.3)


def test_gain_stays_within_its_limit():
    gains_db = [
        20 * np.log10(augment(RAMP, 1000, Augmentation(gain_db=6.0), rng(seed))[1])
        for seed in range(100)
    ]
    assert -6 <= min(gains_db) < -4
    assert 4 < max(gains_db) <= 6


def test_silence_stays_silent():
    everything = Augmentation(0.5, 1.5, 1.0, gain_db=6.0)
    result = augment(np.zeros(1000, np.float32), 1000, everything, rng())
    np.testing.assert_array_equal(result, 0)


def test_mixup_mixes_clips_and_labels_with_the_same_weights():
    shares = np.eye(4, dtype=np.float32)
    # Each clip holds its label's number, so a mixture reveals its shares.
    waveforms = np.repeat(np.arange(4, dtype=np.float32)[:, None], 8, axis=1)
    mixed, mixed_shares = mix(waveforms, shares, 0.5, rng())
    np.testing.assert_allclose(mixed[:, 0], mixed_shares @ np.arange(4), atol=1e-6)
    np.testing.assert_allclose(mixed_shares.sum(1), 1, atol=1e-6)
    assert (mixed_shares.diagonal() >= 0.5).all()
    assert mix(waveforms, shares, 0.0, rng())[0] is waveforms


def test_a_mixture_has_all_labels_of_both_clips_if_labels_are_independent():
    targets = np.array([[1, 0, 0], [0, 0.4, 1], [0, 0, 0]], np.float32)
    shares = []
    for seed in range(20):
        mixed, found = mix(np.eye(3, dtype=np.float32), targets, 0.5, rng(seed), exclusive=False)
        # A clip with less than a tenth cannot be heard.
        expected = [targets[row >= 0.1].max(axis=0) for row in mixed]
        np.testing.assert_array_equal(found, expected)
        shares += mixed[mixed > 0].tolist()
    assert sum(share < 0.1 for share in shares) > 5
    assert sum(0.1 <= share < 0.5 for share in shares) > 5
