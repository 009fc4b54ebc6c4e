"""The probe is deterministic, robust to rounding, and different in every frame."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edge import FrontEnd
from edge.inference.probe import probe_input

FRONT_ENDS = [FrontEnd(window_seconds=2.5), FrontEnd(16_000, 512, 160, 40, 0.0, 8000.0, 1e-10, 1.0)]


@pytest.fixture(params=FRONT_ENDS)
def contract(request, make_contract):
    return replace(make_contract("waveform"), front_end=request.param)


def test_the_probe_is_three_chirps(contract):
    front_end, sound = contract.front_end, probe_input(contract)
    low, high, rate = front_end.fmin_hz, front_end.fmax_hz, front_end.sample_rate_hz
    window = front_end.window_samples

    def chirp(start, end, period, sample):
        seconds, duration = (sample % period) / rate, period / rate
        return math.sin(2 * math.pi * (start * seconds + (end - start) * seconds**2 / duration / 2))

    for sample in range(0, window, 701):
        expected = (
            0.05 * chirp(low, high, front_end.n_fft // 2, sample)
            + 0.1 * chirp(high, low, window // 4, sample)
            + 0.2 * chirp(low, high, window, sample)
        )
        assert sound[sample] == pytest.approx(expected, abs=1e-7)


def test_no_decibel_value_depends_on_rounding(contract):
    """Log-mels in double precision are the same; bands of rounding noise would differ."""
    front_end, mels = contract.front_end, probe_input(replace(contract, inputs="log_mel"))
    padded = np.pad(probe_input(contract).astype(np.float64), front_end.n_fft // 2, "reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, front_end.n_fft)
    frames = frames[:: front_end.hop_length] * front_end.window()
    power = np.abs(np.fft.rfft(frames)) ** 2
    expected = 10 * np.log10(power @ front_end.mel_matrix().astype(np.float64))
    assert mels.shape == (front_end.num_frames, front_end.num_mels)
    np.testing.assert_allclose(mels, expected, atol=1e-4)


def test_all_frames_differ(contract):
    mels = probe_input(replace(contract, inputs="log_mel"))
    differences = np.abs(mels[:, None] - mels).max(axis=-1) + 100 * np.eye(len(mels))
    assert differences.min() > 0.1
