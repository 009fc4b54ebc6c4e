"""Levels of single clips, and reading them as they are stored."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from training.datasets import DatasetError, load_dataset
from training.inspection.sounds import level_of, measure

SINE = np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000).astype(np.float32)


def test_levels_of_a_sine():
    level = level_of(0.5 * SINE + 0.02)
    assert level.peak == pytest.approx(0.52, abs=1e-3)
    assert level.offset == pytest.approx(0.02, abs=1e-4)
    assert level.rms == pytest.approx(np.sqrt(0.125 + 0.0004), abs=1e-4)
    assert not level.constant
    assert not level.clipped


@pytest.mark.parametrize(
    ("samples", "clipped"),
    [
        (SINE, False),
        ((1.5 * SINE).clip(-1, 1), True),
        ((1.5 * SINE).clip(-1, 0.2), True),
        (0.9 * (1.5 * SINE).clip(-1, 1), False),
        (np.stack([SINE, (1.5 * SINE).clip(-1, 1)], axis=1), True),
        (np.array([0, 1, 1, 1, 0.5, 1], np.float32), False),
        (np.array([0, 1, 1, 1, 1], np.float32), True),
        (np.array([0, 1, 1], np.float32), False),
        (np.ones(1, np.float32), False),
    ],
)
def test_clipping_is_a_run_of_equal_samples_at_full_scale(samples, clipped):
    assert level_of(samples).clipped is clipped


def test_only_equal_samples_are_constant():
    assert level_of(np.zeros(5, np.float32)).constant
    assert level_of(np.full((5, 2), 0.1, np.float32)).constant
    assert not level_of(np.array([0, 0, 1e-9], np.float32)).constant


def test_content_depends_on_the_samples():
    assert level_of(SINE).content == level_of(SINE.copy()).content
    assert level_of(SINE).content != level_of(0.5 * SINE).content


def test_clips_are_measured_as_they_are_stored(folder):
    """Resampled to 32 kHz, the flat tops would have ripples."""
    path = folder / "hiss" / "clipped.wav"
    soundfile.write(path, (3 * SINE).clip(-1, 1), 11_025, "PCM_U8")
    soundfile.write(path.with_suffix(".flac"), (3 * SINE).clip(-1, 1) * 0.992, 11_025, "PCM_16")
    dataset = load_dataset("folder", folder, progress=False)
    measured = zip(dataset.clips, measure(dataset), strict=True)
    assert {clip.name for clip, sound in measured if sound.level.clipped} == {
        "hiss/clipped.wav",
        "hiss/clipped.flac",
    }
    generated = replace(dataset, read=lambda clip, rate_hz: np.zeros(100, np.float32))
    assert all(sound.level.constant for sound in measure(generated))


def test_the_same_samples_in_two_formats_have_the_same_content(folder):
    samples = np.rint(10_000 * SINE).astype(np.int16)
    for suffix in ("wav", "flac"):
        soundfile.write(folder / "hiss" / f"same.{suffix}", samples, 8_000)
    dataset = load_dataset("folder", folder, progress=False)
    contents = [
        sound.level.content
        for clip, sound in zip(dataset.clips, measure(dataset), strict=True)
        if "same" in clip.name
    ]
    assert len(contents) == 2
    assert contents[0] == contents[1]


def test_all_unreadable_clips_are_counted(folder):
    dataset = load_dataset("folder", folder, progress=False)
    for clip in dataset.clips[:2]:
        soundfile.write(clip.path, np.full(100, 1e20), 8_000, "DOUBLE")
    with pytest.raises(DatasetError, match=r"2 of 10 clips .*samples up to ±1e\+20"):
        measure(dataset)
