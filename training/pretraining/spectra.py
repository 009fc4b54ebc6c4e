"""Log-mels as bytes, and what rooms, microphones and distance do to them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray

Bytes = npt.NDArray[np.uint8]

_LOWEST_DB = -100.0
_STEP_DB = 0.6
_DB_PER_NEPER = np.float32(10.0 / np.log(10.0))


def to_bytes(log_mels: FloatArray) -> Bytes:
    """Round decibels to steps of 0.6 dB above -100 dB."""
    steps = np.rint((log_mels - _LOWEST_DB) / _STEP_DB)
    return np.clip(steps, 0, 255).astype(np.uint8)


def to_power(values: Bytes) -> FloatArray:
    """Return the mel power of bytes; the lowest byte is silence."""
    return _POWERS[values]


def to_decibels(power: FloatArray, front_end: FrontEnd) -> FloatArray:
    """Return the log-mel of mel power, as the front end clips it."""
    return np.log(np.maximum(power, np.float32(front_end.amin))) * _DB_PER_NEPER


_POWERS = 10.0 ** ((_LOWEST_DB + _STEP_DB * np.arange(256, dtype=np.float32)) / 10.0)
_POWERS[0] = 0.0


@dataclass(frozen=True)
class Surroundings:
    """Ranges of what lies between a sound and the student; a teacher never hears any of it.

    Args:
        level_db: range of the loudest second's level, in dB relative to full scale.
        level_as_is: probability of keeping a recording's own level.
        noise: probability of stationary noise.
        noise_snr_db: range of the signal-to-noise ratio, in dB.
        room: probability of reverberation.
        room_seconds: range of the reverberation time RT60.
        microphone: probability of a microphone's frequency response.
        microphone_db: largest gain or loss of the response.
        low_pass: probability of a lower upper limit of the frequency.
        low_pass_hz: range of that limit.
    """

    level_db: tuple[float, float] = (-50.0, 0.0)
    level_as_is: float = 0.25
    noise: float = 0.5
    noise_snr_db: tuple[float, float] = (0.0, 40.0)
    room: float = 0.3
    room_seconds: tuple[float, float] = (0.15, 1.2)
    microphone: float = 0.5
    microphone_db: float = 9.0
    low_pass: float = 0.4
    low_pass_hz: tuple[float, float] = (3_500.0, 14_000.0)


def surround(
    power: FloatArray, front_end: FrontEnd, ranges: Surroundings, rng: np.random.Generator
) -> FloatArray:
    """Place a sound into a room, before a microphone, among noise, at a distance.

    Everything happens to the mel power, which costs a thousandth of a convolution of the waveform:
    a room smears each band's power with an exponential decay, noise adds its power with the
    fluctuation that its band has.

    Args:
        power: mel power (frames, mels).
        front_end: front end of the log-mels.
        ranges: what may happen.
        rng: random number generator.

    Returns:
        Mel power, (frames, mels).
    """
    centres_hz = front_end.band_centres_hz().astype(np.float32)
    if rng.random() < ranges.room:
        power = _reverberate(power, centres_hz, rng.uniform(*ranges.room_seconds), front_end, rng)
    response_db = np.zeros(power.shape[1], np.float32)
    if rng.random() < ranges.microphone:
        response_db += _smooth_curve(power.shape[1], ranges.microphone_db, rng)
    if rng.random() < ranges.low_pass:
        limit_hz = np.exp(rng.uniform(*np.log(ranges.low_pass_hz)))
        # 30 dB in a third of an octave: the slope of a resampler or a codec.
        response_db -= np.clip(90.0 * np.log2(centres_hz / limit_hz), 0.0, 90.0)
    power = power * _gain(response_db)
    if rng.random() < ranges.noise:
        snr_db = rng.uniform(*ranges.noise_snr_db)
        power = power + _noise(power, snr_db, centres_hz, rng) * _gain(response_db)
    if rng.random() >= ranges.level_as_is:
        change_db = rng.uniform(*ranges.level_db) - _level_db(power, front_end)
        power = power * _gain(change_db)
    return power


def _gain(decibels: FloatArray | float) -> FloatArray:
    return np.asarray(10.0 ** (np.asarray(decibels) / 10.0), np.float32)


def _level_db(power: FloatArray, front_end: FrontEnd) -> float:
    """Estimate the level of the loudest second, in dB relative to full scale."""
    frames = min(len(power), round(front_end.frames_per_second))
    widths = np.gradient(front_end.band_centres_hz()).astype(np.float32)
    # A Slaney band averages over its width, so its width turns it back into the sum of its bins.
    summed = np.cumsum(np.concatenate([[0.0], power @ widths]))
    loudest = float((summed[frames:] - summed[:-frames]).max()) / frames
    # Parseval; the mean square of a Hann window is 3/8.
    mean_square = 2.0 * loudest / (0.375 * front_end.n_fft**2)
    return 10.0 * float(np.log10(max(mean_square, 1e-12)))


def _reverberate(
    power: FloatArray,
    centres_hz: FloatArray,
    seconds: float,
    front_end: FrontEnd,
    rng: np.random.Generator,
) -> FloatArray:
    """Add a diffuse tail, which high frequencies lose sooner, to the direct sound."""
    # RT60 falls by up to half from 1 kHz to 8 kHz.
    times = seconds / (1.0 + np.clip(np.log2(centres_hz / 1_000.0) / 3.0, 0.0, 1.0))
    decay = (10.0 ** (-6.0 / (times * front_end.frames_per_second))).astype(np.float32)
    direct_share = rng.uniform(0.2, 0.9)
    tail = np.empty_like(power)
    state = np.zeros(power.shape[1], np.float32)
    for t, frame in enumerate(power):
        state = decay * state + (1.0 - decay) * frame
        tail[t] = state
    return np.float32(direct_share) * power + np.float32(1.0 - direct_share) * tail


def _smooth_curve(num_bands: int, limit_db: float, rng: np.random.Generator) -> FloatArray:
    """Draw a smooth response: a line through five random gains."""
    gains_db = rng.uniform(-limit_db, limit_db, 5)
    at = np.linspace(0, num_bands - 1, 5)
    return np.interp(np.arange(num_bands), at, gains_db).astype(np.float32)


def _noise(
    power: FloatArray, snr_db: float, centres_hz: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draw stationary noise with a random slope, from brown (-6 dB an octave) to white."""
    slope_db = rng.uniform(-6.0, 1.0)
    shape = _gain(slope_db * np.log2(centres_hz / 1_000.0))
    widths = np.gradient(centres_hz)
    loudness = float((power @ widths).mean()) * 10.0 ** (-snr_db / 10.0)
    shape *= loudness / float(shape @ widths)
    # A band averages about width / 31 Hz bins of a spectrum, each exponentially distributed.
    bins = np.maximum(1.0, widths / 31.25).astype(np.float32)
    return rng.standard_gamma(np.broadcast_to(bins, power.shape), dtype=np.float32) / bins * shape
