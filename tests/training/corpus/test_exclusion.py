"""Recordings of the judging datasets are found by Freesound's number and by their sound."""

import io

import numpy as np
import pytest
import soundfile

from semanticac_keras.sound_files import resample
from tests.training.corpus.sounds import bursts, write
from training.corpus.exclusion import (
    THRESHOLD,
    best_similarities,
    excluded_numbers,
    named_recordings,
    numbers_in,
    read_clips,
)
from training.corpus.sources import CorpusError
from training.inspection.fingerprints import SAMPLE_RATE_HZ, fingerprint, track

# The rooster of ESC-50's 1-26806-A-1.wav, and a dog of UrbanSound8K's fold 5.
ROOSTER, DOG, NEITHER = "26806", "100032", "26807"


def clip(seed, seconds=5.0):
    return bursts(seed, seconds, SAMPLE_RATE_HZ)


def as_mp3(waveform):
    content = io.BytesIO()
    soundfile.write(content, waveform, SAMPLE_RATE_HZ, format="MP3")
    content.seek(0)
    return soundfile.read(content, dtype="float32")[0]


def test_the_numbers_of_both_datasets_are_known():
    assert len(excluded_numbers()) == 2727
    assert {ROOSTER, DOG} <= excluded_numbers()
    assert NEITHER not in excluded_numbers()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (f"a/{ROOSTER}__someone__rooster.wav", True),
        (f"a/0{ROOSTER}_someone_rooster.wav", True),
        (f"a/freesound-{DOG}.ogg", True),
        (f"a/freesound_community-dog-{DOG}.ogg", False),
        (f"a/{NEITHER}__someone__rooster.wav", False),
        (f"a/rooster{ROOSTER}.wav", False),
        ("a/12_dog.wav", False),
    ],
)
def test_a_number_in_a_name_excludes_the_file(name, found):
    assert set(named_recordings([name, "a/other.wav"], {})) == ({name} if found else set())


def test_a_number_in_the_credits_excludes_the_file_that_they_name():
    credits = {
        "CREDITS": "farm_rooster.ogg:\n  cut from\n  "
        f"https://www.freesound.org/people/someone/sounds/{ROOSTER}/ (CC BY)\n\n\n\n\n"
        f"owl.ogg: https://freesound.org/s/{NEITHER}/\n"
    }
    paths = [
        "s/Farm_Rooster.ogg",
        "s/farm_rooster_2.ogg",
        "s/rooster_b.ogg",
        "s/arm.ogg",
        "s/owl.ogg",
    ]
    found = named_recordings(paths, credits)
    assert set(found) == set(paths[:2])
    assert found[paths[0]] == f"its credits have Freesound's number {ROOSTER}"
    assert numbers_in(credits) == [ROOSTER]


@pytest.mark.parametrize("at_seconds", [0.0, 3.37, 40.0])
def test_a_clip_is_found_anywhere_in_an_encoded_recording(at_seconds):
    before = clip(100, max(at_seconds, 0.25))[: round(at_seconds * SAMPLE_RATE_HZ)]
    whole = as_mp3(np.concatenate([before, 0.5 * clip(3), clip(101, 4.0)]))
    prints = [fingerprint(clip(seed)) for seed in range(6)]
    holding, other = best_similarities([track(whole), track(clip(102, 20.0))], prints)
    assert holding > THRESHOLD
    assert other < THRESHOLD


def test_a_short_clip_is_found_among_other_sounds():
    """The rest of such a clip is silence, which the recording does not have there."""
    short = np.pad(clip(3, 1.0), (0, 4 * SAMPLE_RATE_HZ))
    whole = np.concatenate([clip(100, 2.0), clip(3, 1.0), clip(101, 5.0)])
    assert best_similarities([track(whole)], [fingerprint(short)])[0] > THRESHOLD


def test_a_recording_shorter_than_the_clip_is_found():
    part = clip(3)[SAMPLE_RATE_HZ : 4 * SAMPLE_RATE_HZ]
    prints = [fingerprint(clip(3))]
    found = best_similarities([track(part), np.zeros((0, 31), np.int8)], prints)
    assert found[0] > THRESHOLD
    assert found[1] == 0.0


def test_no_clips_exclude_nothing():
    assert best_similarities([track(clip(0))], []).tolist() == [0.0]


def test_clips_to_exclude_are_read_from_folders(tmp_path):
    write(tmp_path / "audio" / "a.wav", resample(clip(0), SAMPLE_RATE_HZ, 32_000))
    write(tmp_path / "audio" / "click.wav", np.pad(clip(0, 0.05), (0, 16_000)), SAMPLE_RATE_HZ)
    (tmp_path / "readme.txt").write_text("clips")
    assert len(read_clips([tmp_path])) == 1  # a click is too short to be recognised
    (tmp_path / "audio" / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(CorpusError, match=r"broken.wav cannot be read"):
        read_clips([tmp_path])
    (tmp_path / "none").mkdir()
    with pytest.raises(CorpusError, match="has no sound files"):
        read_clips([tmp_path / "none"])
