import keras
import librosa
import numpy as np
import pytest
from keras import ops

from edge.inference.frontend import FrontEnd, log_mel
from semanticac_keras import LogMel

HTSAT = FrontEnd(window_seconds=1.0)
CLAP = FrontEnd(sample_rate_hz=48_000, hop_length=480, window_seconds=0.5)
ODD = FrontEnd(16_000, 800, 170, 40, 20.0, 8000.0, window_seconds=0.7)


def sound(front_end: FrontEnd) -> np.ndarray:
    """A chirp over noise, decaying; quiet noise; silence."""
    rng = np.random.default_rng(0)
    n = front_end.window_samples
    seconds = np.arange(n) / front_end.sample_rate_hz
    chirp = np.sin(2 * np.pi * (300 + 2000 * seconds) * seconds) * np.exp(-3 * seconds)
    noise = rng.standard_normal((2, n))
    return np.stack([0.5 * chirp + 0.01 * noise[0], 1e-3 * noise[1], 0 * chirp]).astype(np.float32)


@pytest.mark.parametrize("method", ["rfft", "dft"])
@pytest.mark.parametrize("front_end", [HTSAT, CLAP, ODD])
def test_agrees_with_the_edge_runtime(front_end, method):
    waveforms = sound(front_end)
    result = ops.convert_to_numpy(LogMel(front_end, method)(waveforms))
    expected = np.stack([log_mel(waveform, front_end) for waveform in waveforms])
    assert result.shape == (3, front_end.num_frames, front_end.num_mels)
    # Float32 rounding: a band 60 dB below the loudest of its frame keeps about four digits.
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("method", ["rfft", "dft"])
def test_agrees_with_librosa(method):
    waveform = sound(HTSAT)[0]
    power = librosa.feature.melspectrogram(
        y=waveform, sr=32_000, n_fft=1024, hop_length=320, n_mels=64, fmin=50, fmax=14_000,
        pad_mode="reflect",
    )  # fmt: skip
    expected = librosa.power_to_db(power, amin=1e-10, top_db=None).T
    result = ops.convert_to_numpy(LogMel(HTSAT, method)(waveform[None]))[0]
    assert np.abs(result - expected).max() < 0.01


def test_always_computes_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        result = ops.convert_to_numpy(LogMel(HTSAT)(sound(HTSAT)))
    finally:
        keras.config.set_dtype_policy(before)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[1], log_mel(sound(HTSAT)[1], HTSAT), atol=1e-4)


def test_short_waveforms_and_unknown_methods_are_rejected():
    with pytest.raises(ValueError, match="above 512 samples"):
        LogMel(HTSAT)(np.zeros((1, 512), np.float32))
    with pytest.raises(ValueError, match="`method` must be"):
        LogMel(HTSAT, method="fft")


def test_config_round_trip():
    layer = LogMel.from_config(LogMel(CLAP, "dft").get_config())
    assert (layer.front_end, layer.method) == (CLAP, "dft")


def test_an_unknown_length_gives_unknown_frames():
    layer = LogMel(FrontEnd(8000, 256, 100, 16, 50.0, 4000.0, window_seconds=0.64))
    inputs = keras.Input((None,))
    outputs = layer(inputs)
    assert outputs.shape == (None, None, 16)
    assert keras.Model(inputs, outputs)(np.zeros((2, 1000), np.float32)).shape == (2, 11, 16)
