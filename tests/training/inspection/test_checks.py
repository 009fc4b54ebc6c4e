"""Each warning appears for its cause and for nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.datasets import AudioDataset, Clip
from training.inspection.checks import gives_away, guess_rate, sound_warnings, warnings_for
from training.inspection.fingerprints import Pair, fingerprint
from training.inspection.sounds import Sound, level_of

LABELS = ("dog", "cat", "owl")


def make_clip(number, **changes):
    clip = Clip(
        name=f"{number}",
        label=number % 3,
        fold=1 + number // 3 % 5,
        source=f"{number}",
        path=Path(f"{number}.wav"),
        duration_seconds=1.0,
        sample_rate_hz=44_100,
    )
    return replace(clip, **changes)


def make_dataset(clips, **changes):
    return AudioDataset("pets", LABELS, tuple(clips), "CC0", "", lambda *_: np.zeros(1), **changes)


@pytest.fixture
def clips():
    """Ninety clips of three classes, six of each class in each of five folds."""
    return [make_clip(number) for number in range(90)]


@pytest.fixture
def waveforms():
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal((90, 500)).astype(np.float32)
    return list(noise - noise.mean(axis=1, keepdims=True))


def sounds(waveforms):
    return [Sound(level_of(waveform), fingerprint(waveform)) for waveform in waveforms]


def test_good_data_has_no_warnings(clips, waveforms):
    dataset = make_dataset(clips)
    assert warnings_for(dataset) == []
    assert sound_warnings(dataset, sounds(waveforms), []) == []


def test_clips_with_several_labels_or_none(clips, waveforms):
    several = [
        replace(clip, label=((0, 1), (2,), ())[int(clip.name) % 3], sample_rate_hz=rate)
        for clip, rate in zip(clips, [16_000, 44_100, 44_100] * 30, strict=True)
    ]
    waveforms[1], waveforms[2] = waveforms[0], waveforms[0]
    dataset = make_dataset(several)
    (rate,) = warnings_for(dataset)
    assert "sample rate alone gives the class away" in rate
    assert "right for 67% (by chance: 33%)" in rate
    (same,) = sound_warnings(dataset, sounds(waveforms), [Pair(3, 4, 0.9)])[:1]
    assert same == "the same samples under several labels (1): 0 = 1 = 2"


def test_small_unequal_and_absent_classes(clips):
    few = [clip for clip in clips if clip.label or int(clip.name) < 6]
    assert warnings_for(make_dataset(few)) == [
        "fewer than 10 clips: dog (2); an accuracy means little",
        "cat has 15 times as many clips as dog; look at the accuracy of each class, not only of "
        "all clips",
        "classes without clips in some folds, so not tested there: dog (3, 4, 5)",
    ]


def test_a_sample_rate_for_each_class(clips):
    rates_hz = (44_100, 16_000, 44_100)
    (warning,) = warnings_for(
        make_dataset([replace(clip, sample_rate_hz=rates_hz[clip.label]) for clip in clips])
    )
    assert "sample rate alone gives the class away: a guess from it is right for 67%" in warning
    assert "(by chance: 33%)" in warning
    assert warning.endswith("dog 44,100 Hz, cat 16,000 Hz, owl 44,100 Hz")


def test_a_file_format_for_one_class(clips):
    mp3s = [clip if clip.label else replace(clip, path=Path("a.MP3")) for clip in clips]
    (warning,) = warnings_for(make_dataset(mp3s))
    assert warning.startswith("the file format alone gives the class away")
    assert "dog .mp3, cat .wav" in warning


def test_rates_that_vary_in_all_classes_are_accepted(clips):
    rng = np.random.default_rng(0)
    rates_hz = rng.choice([8_000, 16_000, 44_100, 48_000], len(clips))
    mixed = [replace(c, sample_rate_hz=int(r)) for c, r in zip(clips, rates_hz, strict=True)]
    assert warnings_for(make_dataset(mixed)) == []


def test_guesses_count_each_class_alike():
    labels = [0] * 90 + [1] * 10
    assert guess_rate(["a"] * 100, labels) == 0.5
    assert guess_rate(["a"] * 90 + ["b"] * 10, labels) == 1.0
    assert guess_rate(["a"] * 95 + ["b"] * 5, labels) == 0.75
    assert gives_away(["a"] * 95 + ["b"] * 5, labels)
    assert gives_away([0] * 5 + [1] * 5, [0] * 5 + [1] * 5)
    # A value of its own for each clip is no evidence.
    assert not gives_away(list(range(100)), labels)


def test_copies_at_another_rate(clips):
    (warning,) = warnings_for(make_dataset(clips, copies_at_hz=16_000))
    assert warning.startswith("the clips are copies at 16,000 Hz, with nothing above 8,000 Hz")


def test_silent_quiet_and_shifted_clips(clips, waveforms):
    waveforms[0][:] = 0
    waveforms[1][:] = 0.3
    waveforms[2] *= 1e-4
    waveforms[4] += 0.05
    expected = [
        "2 of 90 clips have no sound at all (all samples are equal): 0, 1",
        "1 of 90 clips are nowhere above -60 dBFS: 2",
        "1 of 90 clips have a DC offset beyond 0.01: 4",
    ]
    dataset = make_dataset(clips)
    assert sound_warnings(dataset, sounds(waveforms), []) == expected


def test_many_clipped_clips(clips, waveforms):
    for waveform in waveforms[:9]:
        waveform[100:108] = (1, 1, 1, 1, -1, -1, -1, -1)
    assert sound_warnings(make_dataset(clips), sounds(waveforms), []) == []
    waveforms[9][100:108] = (-1, -1, -1, -1, 1, 1, 1, 1)
    (warning,) = sound_warnings(make_dataset(clips), sounds(waveforms), [])
    assert warning.startswith("10 of 90 clips are clipped (equal samples at full scale): 0, 1, ")


def test_equal_clips_under_two_labels_in_two_folds_and_in_one(clips, waveforms):
    waveforms[1] = waveforms[0].copy()
    waveforms[6] = waveforms[3].copy()
    waveforms[20] = waveforms[5].copy()
    waveforms[30], waveforms[60] = waveforms[15].copy(), waveforms[15].copy()
    assert sound_warnings(make_dataset(clips), sounds(waveforms), [Pair(0, 1, 1.0)]) == [
        "the same samples under several labels (1): 0 = 1",
        "the same samples in several folds, so that a test repeats what was trained (1): 3 = 6",
        "the same samples in one fold (2): 5 = 20, 15 = 30 = 60",
    ]


def test_similar_clips_under_two_labels_and_in_two_folds(clips, waveforms):
    pairs = [Pair(3, 6, 0.9), Pair(0, 1, 0.8), Pair(5, 20, 0.7)]
    assert sound_warnings(make_dataset(clips), sounds(waveforms), pairs) == [
        "the same sound under two labels (1): 0 ~ 1 (0.80)",
        "the same sound in two folds (1), so that a test repeats what was trained: 3 ~ 6 (0.90); "
        "give such clips one `source` in a CSV file",
    ]
