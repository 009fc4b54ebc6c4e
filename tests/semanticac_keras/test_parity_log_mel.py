"""The front end at CLAP's settings against Hugging Face's feature extractor and librosa."""

import keras
import numpy as np
import pytest

from edge.inference.frontend import FrontEnd, log_mel
from semanticac_keras import LogMel

librosa = pytest.importorskip("librosa")
transformers = pytest.importorskip("transformers")

CLAP = FrontEnd(sample_rate_hz=48_000, hop_length=480)
TOLERANCE_DB = 0.01  # float32 against float64, on sound without silent bands


@pytest.fixture(scope="module")
def waveform():
    rng = np.random.default_rng(0)
    seconds = np.arange(CLAP.window_samples) / CLAP.sample_rate_hz
    chirp = 0.3 * np.sin(2 * np.pi * (100 + 600 * seconds) * seconds)
    return (chirp + 0.05 * rng.standard_normal(seconds.size)).astype(np.float32)


def by_hugging_face(waveform):
    extractor = transformers.ClapFeatureExtractor(
        frequency_min=50, frequency_max=14_000, truncation="rand_trunc", padding="repeatpad"
    )
    features = extractor(waveform, sampling_rate=48_000, return_tensors="np")["input_features"]
    return features[0, 0]


def by_librosa(waveform):
    power = librosa.feature.melspectrogram(
        y=waveform, sr=48_000, n_fft=1024, hop_length=480, n_mels=64, fmin=50, fmax=14_000,
        pad_mode="reflect",
    )  # fmt: skip
    return librosa.power_to_db(power, amin=1e-10, top_db=None).T


@pytest.mark.parametrize("reference", [by_hugging_face, by_librosa])
@pytest.mark.parametrize("ours", ["numpy", "keras"])
def test_log_mel_is_the_reference_s(reference, ours, waveform):
    if ours == "numpy":
        features = log_mel(waveform, CLAP)
    else:
        features = keras.ops.convert_to_numpy(LogMel(CLAP)(waveform[None]))[0]
    expected = reference(waveform)
    assert features.shape == expected.shape == (1001, 64)
    error_db = np.abs(features - expected).max()
    print(f"{ours}, {reference.__name__}: max abs error {error_db:.1e} dB")
    assert error_db <= TOLERANCE_DB
