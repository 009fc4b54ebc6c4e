"""Log-mels as bytes, and what surrounds a sound."""

import numpy as np
import pytest

from edge.inference.frontend import FrontEnd, log_mel
from training.pretraining.spectra import (
    Surroundings,
    _level_db,
    _noise,
    _reverberate,
    surround,
    to_bytes,
    to_decibels,
    to_power,
)

FRONT_END = FrontEnd(window_seconds=5.0)
SILENT = Surroundings(level_as_is=1.0, noise=0.0, room=0.0, microphone=0.0, low_pass=0.0)


def power_of(waveform: np.ndarray) -> np.ndarray:
    return to_power(to_bytes(log_mel(waveform.astype(np.float32), FRONT_END)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_bytes_keep_decibels_within_half_a_step() -> None:
    decibels = np.linspace(-99.9, 50.0, 1000, dtype=np.float32)[None]
    restored = to_decibels(to_power(to_bytes(decibels)), FRONT_END)
    assert np.abs(restored - decibels).max() <= 0.31


def test_silence_stays_silence(rng) -> None:
    power = power_of(np.zeros(160_000))
    assert not power.any()
    surrounded = surround(power, FRONT_END, Surroundings(), rng)
    assert np.isfinite(to_decibels(surrounded, FRONT_END)).all()


@pytest.mark.parametrize("level_db", [-10.0, -45.0])
def test_level_of_a_tone_is_found_in_its_mel_power(level_db: float) -> None:
    times = np.arange(160_000) / 32_000
    tone = np.sqrt(2.0) * 10 ** (level_db / 20) * np.sin(2 * np.pi * 1000.0 * times)
    assert _level_db(power_of(tone), FRONT_END) == pytest.approx(level_db, abs=0.7)


def test_level_is_that_of_the_loudest_second(rng) -> None:
    waveform = np.zeros(160_000)
    waveform[64_000:96_000] = 0.1 * rng.standard_normal(32_000)
    # The front end leaves out what lies above 14 kHz.
    assert _level_db(power_of(waveform), FRONT_END) == pytest.approx(-20.6, abs=0.7)


def test_sound_is_moved_to_the_level(rng) -> None:
    power = power_of(0.5 * rng.standard_normal(160_000))
    quiet = Surroundings(level_db=(-45.0, -45.0), level_as_is=0.0, noise=0, room=0, microphone=0)
    moved = surround(power, FRONT_END, quiet, rng)
    assert _level_db(moved, FRONT_END) == pytest.approx(-45.0, abs=0.5)


def test_noise_has_the_ratio(rng) -> None:
    power = power_of(0.1 * rng.standard_normal(160_000))
    centres = FRONT_END.band_centres_hz().astype(np.float32)
    noise = _noise(power, 10.0, centres, rng)
    widths = np.gradient(centres)
    ratio = (power @ widths).mean() / (noise @ widths).mean()
    assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=0.3)


def test_room_smears_a_click_and_decays_by_its_time(rng) -> None:
    power = np.zeros((501, 64), np.float32)
    power[100] = 1.0
    centres = FRONT_END.band_centres_hz().astype(np.float32)
    tail = _reverberate(power, centres, 0.5, FRONT_END, rng)
    assert not tail[:100].any()
    low = 10 * np.log10(tail[101:131, 0])
    # 60 dB in half a second are 1.2 dB in a frame of 10 ms.
    assert np.diff(low) == pytest.approx(-1.2, abs=0.01)
    assert tail[120, -1] < tail[120, 0]


def test_nothing_happens_without_surroundings(rng) -> None:
    power = power_of(0.1 * rng.standard_normal(160_000))
    np.testing.assert_array_equal(surround(power, FRONT_END, SILENT, rng), power)
