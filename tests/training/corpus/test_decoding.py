"""Decoding: silence is cut, music is cut short, a bad file is refused."""

import numpy as np
import pytest
import soundfile

from semanticac_keras.sound_files import SoundFileError
from tests.training.corpus.sounds import RATE_HZ, bursts, write
from training.corpus.decoding import decode, without_silence


def test_silence_is_cut_at_the_ends_and_within():
    sound = bursts(0, 1.0)
    silence = np.zeros(2 * RATE_HZ, np.float32)
    short = np.zeros(RATE_HZ // 4, np.float32)
    cut = without_silence(np.concatenate([silence, sound, silence, sound, short, sound, silence]))
    # Margins of 0.1 s stay on both sides of each of two parts; the short pause stays.
    assert len(cut) / RATE_HZ == pytest.approx(3 + 0.25 + 4 * 0.1, abs=0.05)
    assert len(without_silence(silence)) == 0


def test_a_file_becomes_16_bit_mono_at_32_khz(tmp_path):
    stereo = np.stack([bursts(0, 1.0, 16_000), bursts(1, 1.0, 16_000)], axis=1)
    write(tmp_path / "a" / "b.flac", stereo, 16_000)
    found = decode(tmp_path, "a/b.flac", "mixed", lambda waveform: len(waveform))
    assert found.samples.dtype == np.int16
    assert found.file_rate_hz == 16_000
    assert found.sound_class == len(found.samples) == RATE_HZ
    assert len(found.track) == 20
    again = decode(tmp_path, "a/b.flac", "mixed")
    assert again.digest == found.digest
    assert again.sound_class == -1


def test_only_the_middle_of_music_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("training.corpus.decoding.LONGEST_SECONDS", {"music": 1.0})
    sound = bursts(0, 3.0)
    write(tmp_path / "a.wav", sound)
    music = decode(tmp_path, "a.wav", "music").samples
    whole = decode(tmp_path, "a.wav", "mixed").samples
    assert len(whole) == 3 * RATE_HZ
    np.testing.assert_array_equal(music, whole[RATE_HZ : 2 * RATE_HZ])


def test_truncated_silent_and_short_files_are_refused(tmp_path):
    whole = write(tmp_path / "a.wav", bursts(0, 1.0)).read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:-1000])
    with pytest.raises(SoundFileError, match="truncated"):
        decode(tmp_path, "a.wav", "mixed")
    write(tmp_path / "silent.wav", np.zeros(RATE_HZ))
    write(tmp_path / "short.wav", bursts(0, 0.05))
    for name in ("silent.wav", "short.wav"):
        with pytest.raises(SoundFileError, match="silent or too short"):
            decode(tmp_path, name, "mixed")


def test_samples_beyond_full_scale_are_scaled_and_not_clipped(tmp_path):
    loud = 4 * bursts(0, 0.5)
    soundfile.write(tmp_path / "a.wav", loud, RATE_HZ, subtype="FLOAT")
    samples = decode(tmp_path, "a.wav", "mixed").samples
    assert np.abs(samples.astype(int)).max() == 32_767
    assert np.corrcoef(samples, loud[: len(samples)])[0, 1] > 0.9999
