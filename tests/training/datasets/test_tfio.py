"""Reading with tensorflow-io, and the error if it is not installed."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from semanticac_keras.sound_files import SoundFileError, read_waveform
from training.datasets import DatasetError, load_dataset, tfio


@pytest.fixture
def sounds(tmp_path):
    """A folder of two classes with a file of each kind, 0.5 s of a chirp, in two channels."""
    seconds = np.arange(22_050) / 44_100
    chirp = 0.5 * np.sin(2 * np.pi * (200 + 2000 * seconds) * seconds)
    channels = np.stack([chirp, 0.5 * chirp], axis=1)
    kinds = [("wav", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT")]
    kinds += [("flac", "PCM_16"), ("flac", "PCM_24"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")]
    for label in ("one", "two"):
        (tmp_path / label).mkdir()
        for suffix, kind in kinds:
            path = tmp_path / label / f"{label}-{kind}-{suffix}.{suffix}"
            soundfile.write(path, channels, 44_100, kind)
    return tmp_path


def test_without_tensorflow_io_the_error_names_the_extra(sounds, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(DatasetError, match=r"^tensorflow-io cannot be loaded .*\[card\]") as caught:
        load_dataset("folder", sounds, progress=False, decoder="tfio")
    assert "\n" not in str(caught.value)


def test_an_unknown_decoder_is_rejected():
    with pytest.raises(ValueError, match="'ffmpeg'"):
        load_dataset("demo", decoder="ffmpeg")


def tfio_or_skip():
    pytest.importorskip("tensorflow_io", exc_type=Exception)


@pytest.mark.parametrize("sample_rate_hz", [44_100, 32_000])
def test_samples_equal_those_of_soundfile(sounds, sample_rate_hz):
    tfio_or_skip()
    dataset = load_dataset("folder", sounds, progress=False, decoder="tfio")
    for clip in dataset.clips:
        expected = read_waveform(clip.path, sample_rate_hz)
        tolerance = 1e-3 if clip.path.suffix in (".mp3", ".ogg") else 1e-6
        samples = dataset.read(clip, sample_rate_hz)
        np.testing.assert_allclose(samples, expected, atol=tolerance, err_msg=clip.name)


def test_encodings_that_it_misreads_are_rejected(sounds):
    tfio_or_skip()
    soundfile.write(sounds / "one" / "long.wav", 0.5 * np.ones(1000), 44_100, "PCM_32")
    dataset = load_dataset("folder", sounds, progress=False, decoder="tfio")
    with pytest.raises(DatasetError, match=r"1 of 17 .*PCM_32"):
        dataset.load(range(len(dataset.clips)))


def test_unscaled_samples_are_rejected_and_segments_read(sounds, monkeypatch):
    """With soundfile in place of tensorflow-io's audio module."""

    def read(path):
        samples = soundfile.read(path, dtype="float32", always_2d=True)[0]
        return SimpleNamespace(to_tensor=lambda: SimpleNamespace(numpy=lambda: samples))

    errors = SimpleNamespace(OpError=RuntimeError)
    tensorflow = SimpleNamespace(device=lambda name: nullcontext(), errors=errors)
    monkeypatch.setattr(tfio, "_load", lambda: (tensorflow, SimpleNamespace(AudioIOTensor=read)))
    dataset = load_dataset("folder", sounds, progress=False, decoder="tfio")
    clip = next(clip for clip in dataset.clips if "FLOAT" in clip.name)
    part = dataset.read(replace(clip, segment=(0.1, 0.3)), 44_100)
    np.testing.assert_allclose(part, read_waveform(clip.path, 44_100, (0.1, 0.3)), atol=1e-6)
    soundfile.write(clip.path, np.full(1000, 1e30), 44_100, "FLOAT")
    with pytest.raises(SoundFileError, match=r"samples up to ±1e\+30"):
        dataset.read(clip, 44_100)


def test_a_dataset_without_files_needs_no_decoder():
    tfio_or_skip()
    with pytest.raises(ValueError, match="demo has none"):
        load_dataset("demo", progress=False, decoder="tfio")
