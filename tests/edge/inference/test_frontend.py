"""The numpy front end matches librosa, and the streaming one matches the complete file."""

import numpy as np
import pytest

from edge import FrontEnd, StreamingLogMel, log_mel

FRONT_END = FrontEnd()


@pytest.fixture(scope="module")
def librosa():
    """The reference, which takes seconds to import; device environments do not have it."""
    return pytest.importorskip("librosa")


def librosa_log_mel(librosa, waveform, front_end):
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=front_end.sample_rate_hz,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.num_mels,
        fmin=front_end.fmin_hz,
        fmax=front_end.fmax_hz,
        power=2.0,
        pad_mode="reflect",
    )
    return librosa.power_to_db(mel, ref=1.0, amin=front_end.amin, top_db=None).T


def streamed(waveform, sizes, front_end=FRONT_END):
    """Push `waveform` in chunks of the given sizes; the last size repeats."""
    stream, frames, start = StreamingLogMel(front_end), [], 0
    sizes = iter(sizes)
    size = next(sizes)
    while start < waveform.size:
        frames.append(stream.push(waveform[start : start + size]))
        start += size
        size = next(sizes, size)
    return np.concatenate([*frames, stream.flush()])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "n_fft", "mels", "fmin", "fmax"),
    [(32_000, 1024, 64, 50.0, 14_000.0), (16_000, 512, 40, 0.0, 8_000.0)],
)
def test_mel_matrix_matches_librosa(librosa, rate, n_fft, mels, fmin, fmax):
    front_end = FrontEnd(rate, n_fft, 160, mels, fmin, fmax)
    reference = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=mels, fmin=fmin, fmax=fmax)
    np.testing.assert_allclose(front_end.mel_matrix(), reference.T, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_window_is_periodic_hann(librosa):
    reference = librosa.filters.get_window("hann", 1024, fftbins=True)
    np.testing.assert_allclose(FRONT_END.window(), reference, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1024, 32_000, 160_000])
def test_log_mel_matches_librosa(librosa, make_sound, samples):
    waveform = make_sound(samples)
    ours, reference = log_mel(waveform, FRONT_END), librosa_log_mel(librosa, waveform, FRONT_END)
    assert ours.shape == reference.shape == (FRONT_END.frames_in(samples), 64)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, reference, atol=0.01)


@pytest.mark.slow
def test_log_mel_of_a_pure_tone_matches_librosa_where_audible(librosa):
    """Bins that a float32 transform cannot resolve (90 dB below the tone) always differ."""
    tone = 0.5 * np.sin(2 * np.pi * 1000.0 * np.arange(32_000) / 32_000).astype(np.float32)
    ours, reference = log_mel(tone, FRONT_END), librosa_log_mel(librosa, tone, FRONT_END)
    audible = reference > reference.max() - 90.0
    np.testing.assert_allclose(ours[audible], reference[audible], atol=0.01)
    np.testing.assert_allclose(ours, reference, atol=0.1)


def test_silence_is_at_the_floor():
    np.testing.assert_allclose(log_mel(np.zeros(3200, np.float32), FRONT_END), -100.0, atol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 2, 512, 513, 1023, 1024, 10_001])
@pytest.mark.parametrize("size", [1, 7, 319, 320, 512, 16_000, 10**6])
def test_streamed_frames_match_the_file(make_sound, samples, size):
    waveform = make_sound(samples)
    frames = streamed(waveform, [size])
    np.testing.assert_allclose(frames, log_mel(waveform, FRONT_END), atol=1e-4)


@pytest.mark.parametrize("size", [7_000, 16_000, 50_000, 10**6])
def test_streamed_frames_match_the_file_over_several_blocks(make_sound, size):
    """A block of frames has 40,960 samples."""
    waveform = make_sound(100_001)
    frames = streamed(waveform, [size])
    np.testing.assert_allclose(frames, log_mel(waveform, FRONT_END), atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_streamed_frames_match_the_file_for_random_chunks(make_sound, seed):
    rng = np.random.default_rng(seed)
    sizes = np.floor(10.0 ** rng.uniform(-0.5, 4.5, 40)).astype(int).clip(0)  # 0 .. 30,000
    waveform = make_sound(int(rng.integers(1, 200_000)), seed)
    frames = streamed(waveform, [*sizes.tolist(), 4000])
    np.testing.assert_allclose(frames, log_mel(waveform, FRONT_END), atol=1e-4)


def test_frame_is_returned_once_its_samples_have_arrived(make_sound):
    waveform = make_sound(4000)
    stream = StreamingLogMel(FRONT_END)
    complete = 320 * 5 + 512
    assert stream.push(waveform[: complete - 1]).shape == (5, 64)
    assert stream.push(waveform[complete - 1 : complete]).shape == (1, 64)


@pytest.mark.parametrize("end", ["reset", "flush"])
def test_the_next_stream_is_independent(make_sound, end):
    stream = StreamingLogMel(FRONT_END)
    stream.push(make_sound(5000, seed=1))
    getattr(stream, end)()
    waveform = make_sound(5000, seed=2)
    frames = np.concatenate([stream.push(waveform), stream.flush()])
    np.testing.assert_allclose(frames, log_mel(waveform, FRONT_END), atol=1e-4)


def test_bad_shape_leaves_the_stream_unchanged(make_sound):
    waveform = make_sound(5000)
    stream = StreamingLogMel(FRONT_END)
    first = stream.push(waveform[:3000])
    with pytest.raises(ValueError, match=r"shape \(samples,\)"):
        stream.push(waveform.reshape(2, -1))
    frames = np.concatenate([first, stream.push(waveform[3000:]), stream.flush()])
    np.testing.assert_allclose(frames, log_mel(waveform, FRONT_END), atol=1e-4)


@pytest.mark.parametrize(
    "numbers",
    [
        {"sample_rate_hz": 0},
        {"n_fft": 1023},
        {"hop_length": 512},
        {"hop_length": 320.0},
        {"fmax_hz": 20_000.0},
        {"amin": 0.0},
        {"window_seconds": 0.01},
    ],
)
def test_inconsistent_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="Received"):
        FrontEnd(**numbers)


def test_json_round_trip():
    front_end = FrontEnd(window_seconds=5.0)
    assert FrontEnd.from_json(front_end.to_json()) == front_end
    assert (front_end.window_samples, front_end.num_frames) == (160_000, 501)
