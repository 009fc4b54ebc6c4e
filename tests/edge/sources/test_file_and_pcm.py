"""Sources give what one-shot reading and resampling give, and say where they fail."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from edge import SourceError, file_source, pcm_source
from edge.sources import Gap
from edge.sources.resampling import Resampler


def drain(source):
    """The chunks until the end or an error, joined, and the error."""
    chunks, failure = [np.zeros(0, np.float32)], None
    try:
        for chunk in source:
            assert chunk.dtype == np.float32
            assert chunk.ndim == 1
            chunks.append(chunk)
    except SourceError as error:
        failure = error
    return np.concatenate(chunks), failure


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
def test_file_in_blocks_is_the_file_at_once(tmp_path, make_sound, name, subtype, channels, rate_hz):
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
def test_truncated_file_gives_what_it_has(tmp_path, make_sound, name, message, rate_hz):
    whole, cut = tmp_path / f"whole_{name}", tmp_path / name
    soundfile.write(whole, make_sound(44_100 * 8), 44_100)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2 + 7])
    samples, failure = drain(file_source(cut, rate_hz))
    assert message in str(failure)
    assert name in str(failure)
    expected = one_shot(whole, rate_hz)
    assert 3.9 < samples.size / rate_hz < 4.1
    # The resampler's last half millisecond hears the end.
    np.testing.assert_allclose(samples[:-100], expected[: samples.size - 100], atol=1e-6)


def test_streamed_wav_of_unknown_length_is_whole(tmp_path, make_sound):
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


def test_what_is_no_sound_is_refused(tmp_path):
    with pytest.raises(SourceError, match="No audio file at"):
        file_source(tmp_path / "missing.wav", 32_000)
    with pytest.raises(SourceError, match="No audio file at"):
        file_source(tmp_path, 32_000)
    text = tmp_path / "notes.wav"
    text.write_text("not a recording")
    with pytest.raises(SourceError, match=r"notes\.wav cannot be read as audio: Format not"):
        file_source(text, 32_000)


def test_closed_recording_ends(tmp_path, make_sound):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_sound(44_100 * 3), 44_100)
    source = file_source(path, 32_000)
    assert next(source).size > 0
    source.close()
    assert list(source) == []


def test_resampler_starts_anew_after_its_end(make_sound):
    sound = make_sound(44_100)
    resampler = Resampler(44_100, 32_000)
    for samples in (sound, sound[:20_000], sound):
        parts = [resampler.push(part) for part in np.array_split(samples, 7)]
        resampled = np.concatenate([*parts, resampler.flush()])
        np.testing.assert_allclose(
            resampled, soxr.resample(samples, 44_100, 32_000, quality="HQ"), atol=1e-6
        )


def test_nan_is_refused_with_its_place(tmp_path, make_sound):
    path = tmp_path / "a.wav"
    sound = make_sound(64_000)
    sound[40_000] = np.nan
    soundfile.write(path, sound, 32_000, subtype="FLOAT")
    samples, failure = drain(file_source(path, 32_000))
    assert str(failure).startswith("NaN or infinite samples in")
    assert str(failure).endswith("a.wav at 1.00 s.")
    np.testing.assert_array_equal(samples, sound[:32_000])


def test_nan_in_a_pipe_leaves_a_gap(make_sound):
    """A pipe may be live: what comes after counts."""
    sound = make_sound(16_000 * 2)
    sound[17_000] = np.nan
    before, after = sound[:16_000], sound[17_600:]
    stream = io.BytesIO(sound.astype("<f4").tobytes())
    items = list(pcm_source(stream, 32_000, 16_000, sample_format="f32le"))
    (place,) = [index for index, item in enumerate(items) if isinstance(item, Gap)]
    assert items[place] == Gap(0.1, "samples that are no numbers")
    for part, chunks in ((before, items[:place]), (after, items[place + 1 :])):
        expected = soxr.resample(part, 16_000, 32_000, quality="HQ")
        np.testing.assert_allclose(np.concatenate(chunks), expected, atol=1e-6)


class Trickle(io.BytesIO):
    """Reads of any length, also within a sample, as pipes and sockets give them."""

    def __init__(self, data, seed):
        super().__init__(data)
        self._rng = np.random.default_rng(seed)

    def read(self, size=-1):
        return super().read(int(self._rng.integers(1, 200)) % size + 1)


@pytest.mark.parametrize("rate_hz", [16_000, 32_000])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sample_format", ["s16le", "f32le"])
def test_pcm_is_the_wav(make_sound, sample_format, channels, rate_hz):
    sound = np.stack([make_sound(9000, seed) for seed in range(channels)], axis=1)
    if sample_format == "s16le":
        data = (sound * 32767).astype("<i2")
        sound = data.astype(np.float32) / 32768
    else:
        data = sound.astype("<f4")
    expected = soxr.resample(sound.mean(axis=1), 16_000, rate_hz, quality="HQ")
    for stream in (io.BytesIO(data.tobytes()), Trickle(data.tobytes() + b"\x01", seed=0)):
        samples, failure = drain(pcm_source(stream, rate_hz, 16_000, channels, sample_format))
        assert failure is None
        np.testing.assert_allclose(samples, expected, atol=1e-6)


def test_pcm_stream_that_fails_gives_what_it_had():
    class Unplugged(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            if not data:
                raise OSError(5, "Input/output error")
            return data

    samples, failure = drain(pcm_source(Unplugged(bytes(32_000)), 16_000, 16_000))
    assert samples.size == 16_000
    assert str(failure) == "The PCM stream failed: Input/output error."


def test_pcm_arguments_are_checked_at_once():
    with pytest.raises(ValueError, match=r"one of s16le, f32le\. Received: u8"):
        pcm_source(io.BytesIO(), 16_000, 16_000, 1, "u8")
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0 and 1"):
        pcm_source(io.BytesIO(), 16_000, 0)
