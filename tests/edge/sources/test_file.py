"""File sources match resampling the entire file, and report where a file fails."""

import numpy as np
import pytest
import soundfile
import soxr

from edge import SourceError, file_source
from tests.edge.listening import drain


def one_shot(path, rate_hz):
    samples, file_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), file_rate_hz, rate_hz, quality="HQ")


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
@pytest.mark.parametrize(
    ("name", "subtype", "channels"),
    [
        ("a.wav", "PCM_16", 1),
        ("a.wav", "PCM_U8", 1),
        ("a.wav", "PCM_24", 2),
        ("a.wav", "FLOAT", 3),
        ("a.flac", "PCM_16", 2),
        ("a.ogg", "VORBIS", 1),
        ("a.mp3", "MPEG_LAYER_III", 1),
    ],
)
def test_file_in_blocks_matches_the_entire_file(
    tmp_path, make_sound, name, subtype, channels, rate_hz
):
    path = tmp_path / name
    sound = np.stack([make_sound(70_001, seed) for seed in range(channels)], axis=1)
    soundfile.write(path, sound, 44_100 if channels == 1 else 32_000, subtype=subtype)
    samples, failure = drain(file_source(path, rate_hz))
    assert failure is None
    np.testing.assert_allclose(samples, one_shot(path, rate_hz), atol=1e-6)


@pytest.mark.parametrize("samples", [0, 1, 5, 22_050, 22_051])
@pytest.mark.parametrize("rate_hz", [32_000, 44_100])
def test_lengths_about_a_block(tmp_path, make_sound, samples, rate_hz):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_sound(samples), 44_100)
    samples, failure = drain(file_source(path, rate_hz))
    assert failure is None
    np.testing.assert_allclose(samples, one_shot(path, rate_hz), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.wav", "is cut short"), ("a.aiff", "is cut short"), ("a.flac", "is damaged")],
)
@pytest.mark.parametrize("rate_hz", [32_000, 44_100])
def test_a_truncated_file_yields_its_samples_and_fails(
    tmp_path, make_sound, name, message, rate_hz
):
    complete, cut = tmp_path / f"complete_{name}", tmp_path / name
    soundfile.write(complete, make_sound(44_100 * 8), 44_100)
    data = complete.read_bytes()
    cut.write_bytes(data[: len(data) // 2 + 7])
    samples, failure = drain(file_source(cut, rate_hz))
    assert message in str(failure)
    assert name in str(failure)
    expected = one_shot(complete, rate_hz)
    assert 3.9 < samples.size / rate_hz < 4.1
    # The cut affects the resampler's last half millisecond.
    np.testing.assert_allclose(samples[:-100], expected[: samples.size - 100], atol=1e-6)


def test_a_streamed_wav_of_unknown_length_is_complete(tmp_path, make_sound):
    """Recorders that write to a pipe cannot fill in the sizes."""
    path = tmp_path / "a.wav"
    soundfile.write(path, make_sound(50_000), 32_000)
    data = bytearray(path.read_bytes())
    for size_at in (4, data.index(b"data") + 4):
        data[size_at : size_at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    samples, failure = drain(file_source(path, 32_000))
    assert failure is None
    assert samples.size == 50_000


def test_files_that_are_not_audio_are_refused(tmp_path):
    with pytest.raises(SourceError, match="No audio file at"):
        file_source(tmp_path / "missing.wav", 32_000)
    with pytest.raises(SourceError, match="No audio file at"):
        file_source(tmp_path, 32_000)
    text = tmp_path / "notes.wav"
    text.write_text("not a recording")
    with pytest.raises(SourceError, match=r"notes\.wav cannot be read as audio: Format not"):
        file_source(text, 32_000)


def test_a_closed_recording_ends(tmp_path, make_sound):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_sound(44_100 * 3), 44_100)
    source = file_source(path, 32_000)
    assert next(source).size > 0
    source.close()
    assert list(source) == []


def test_nan_is_refused_with_its_position(tmp_path, make_sound):
    path = tmp_path / "a.wav"
    sound = make_sound(64_000)
    sound[40_000] = np.nan
    soundfile.write(path, sound, 32_000, subtype="FLOAT")
    samples, failure = drain(file_source(path, 32_000))
    assert str(failure).startswith("NaN or infinite samples in")
    assert str(failure).endswith("a.wav at 1.00 s.")
    np.testing.assert_array_equal(samples, sound[:32_000])
