"""Reading sound files: equality with librosa, and damaged files."""

import struct

import librosa
import numpy as np
import pytest
import soundfile

from semanticac_keras.sound_files import SoundFileError, load_audio, read_header, read_waveform

# librosa imports audioread, which imports deprecated modules of Python.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated and slated:DeprecationWarning")

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (44_100, 2)).astype(np.float32)


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "noise.wav"
    soundfile.write(path, NOISE, 44_100)
    return path


@pytest.mark.parametrize("sample_rate_hz", [44_100, 32_000, 48_000])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".ogg", ".mp3"])
def test_waveforms_equal_librosa(tmp_path, suffix, sample_rate_hz):
    """Bit-exact, except for a zero that librosa may append when it rounds the length up."""
    path = tmp_path / f"noise{suffix}"
    soundfile.write(path, NOISE, 44_100)
    reference, _ = librosa.load(path, sr=sample_rate_hz, res_type="soxr_hq")
    waveform = read_waveform(path, sample_rate_hz)
    assert waveform.dtype == np.float32
    assert len(waveform) == sample_rate_hz
    np.testing.assert_array_equal(waveform, reference[:sample_rate_hz])
    assert reference[sample_rate_hz:].tolist() in ([], [0.0])


def test_header(wav):
    header = read_header(wav)
    assert (header.sample_rate_hz, header.num_channels, header.num_frames) == (44_100, 2, 44_100)
    assert header.duration_seconds == 1.0


@pytest.mark.parametrize(
    ("suffix", "format_name"), [(".wav", "WAV"), (".wav", "RF64"), (".aiff", "AIFF")]
)
def test_truncated_samples_are_rejected(tmp_path, suffix, format_name):
    """libsndfile alone would silently return the shorter sound."""
    path = tmp_path / f"cut{suffix}"
    soundfile.write(path, NOISE, 44_100, format=format_name)
    content = path.read_bytes()
    read_waveform(path, 32_000)
    path.write_bytes(content[:-2])
    assert soundfile.info(path).frames < len(NOISE)
    for read in (read_header, lambda path: read_waveform(path, 32_000)):
        with pytest.raises(SoundFileError, match=f"{len(content) - 2:,} of {len(content):,} bytes"):
            read(path)


def test_truncated_flac_is_rejected(tmp_path):
    path = tmp_path / "cut.flac"
    soundfile.write(path, NOISE, 44_100)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(SoundFileError, match=r"unreadable|truncated"):
        read_waveform(path, 32_000)


def test_chunks_around_the_samples_are_skipped(wav):
    content = wav.read_bytes()
    start = content.index(b"data")
    odd_chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    wav.write_bytes(content[:start] + odd_chunk + content[start:] + odd_chunk)
    assert len(read_waveform(wav, 32_000)) == 32_000


def test_streamed_wav_without_a_length_is_read(wav):
    content = wav.read_bytes()
    size_at = content.index(b"data") + 4
    wav.write_bytes(content[:size_at] + b"\xff\xff\xff\xff" + content[size_at + 4 :])
    assert len(read_waveform(wav, 44_100)) == len(NOISE)


def test_flac_without_a_length_is_rejected(tmp_path):
    path = tmp_path / "piped.flac"
    soundfile.write(path, NOISE, 44_100)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(SoundFileError, match="does not state its length"):
        read_waveform(path, 32_000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_samples_are_rejected(tmp_path, value):
    path = tmp_path / "float.wav"
    soundfile.write(path, np.array([0.0, value, 0.1], np.float32), 44_100, subtype="FLOAT")
    with pytest.raises(SoundFileError, match="NaN or infinite"):
        read_waveform(path, 32_000)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("peak", [1e30, -32_768.0, 100.5])
def test_unscaled_samples_are_rejected(tmp_path, subtype, peak):
    path = tmp_path / "float.wav"
    soundfile.write(path, np.array([0.0, peak, 0.1]), 44_100, subtype)
    with pytest.raises(SoundFileError, match=r"samples up to ±.*within about ±1; divide"):
        read_waveform(path, 32_000)


def test_samples_somewhat_above_full_scale_are_read(tmp_path):
    path = tmp_path / "float.wav"
    soundfile.write(path, np.array([0.0, -3.5, 0.1]), 44_100, "FLOAT")
    np.testing.assert_allclose(read_waveform(path, 44_100), [0.0, -3.5, 0.1])


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".ogg", ".mp3"])
def test_a_segment_equals_that_part_of_the_file(tmp_path, suffix):
    path = tmp_path / f"noise{suffix}"
    soundfile.write(path, np.tile(NOISE, (3, 1)), 44_100)
    whole = read_waveform(path, 44_100)
    for start, end in ((0.0, 0.5), (1.1, 1.35), (2.9, 3.0)):
        part = read_waveform(path, 44_100, (start, end))
        expected = whole[round(start * 44_100) : round(end * 44_100)]
        np.testing.assert_allclose(part, expected, atol=1e-6)


def test_only_the_segment_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "noise.flac"
    soundfile.write(path, np.tile(NOISE, (3, 1)), 44_100)
    lengths = []
    read = soundfile.SoundFile.read

    def counting(file, frames=-1, **options):
        lengths.append(frames)
        return read(file, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    assert len(read_waveform(path, 44_100, (2.0, 2.1))) == 4_410
    assert lengths == [4_410]


def test_missing_empty_and_foreign_files_are_rejected(tmp_path):
    with pytest.raises(SoundFileError, match="missing"):
        read_waveform(tmp_path / "none.wav", 32_000)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0, np.float32), 44_100)
    with pytest.raises(SoundFileError, match="empty"):
        read_waveform(empty, 32_000)
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    with pytest.raises(SoundFileError, match="unreadable: Format not recognised"):
        read_header(text)
    with pytest.raises(SoundFileError, match="unreadable"):
        read_header(tmp_path)


def test_load_audio_equals_librosa(wav):
    expected, _ = librosa.load(wav, sr=16_000)
    np.testing.assert_array_equal(load_audio(str(wav), 16_000), expected)


def test_load_audio_names_the_file(tmp_path, wav):
    path = tmp_path / "absent.wav"
    with pytest.raises(ValueError, match=rf"{path}: missing"):
        load_audio(path)
    with pytest.raises(ValueError, match="must be positive"):
        load_audio(wav, 0)
