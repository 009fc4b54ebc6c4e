"""A deterministic test sound: a model's output for it must agree between machines."""

import numpy as np
import numpy.typing as npt

from edge.inference.bundle import BundleContract
from edge.inference.frontend import log_mel
from edge.inference.tagger import TaggerGraph
from edge.types import FloatArray


def probe_input(contract: BundleContract, tagger: TaggerGraph | None = None) -> FloatArray:
    """The graph's input for one window of chirps, without the batch axis.

    The chirps are computed in double precision. Fast ones put energy into every band of every
    frame, so that no decibel value depends on rounding; slow ones make every frame different.

    Args:
        contract: the bundle's contract.
        tagger: graph of its tagger, if there is one.

    Returns:
        float32 log-mels (num_frames, num_mels), samples (window_samples,) or embeddings
        (tagger windows, D).
    """
    front_end = contract.front_end
    low, high = front_end.fmin_hz, front_end.fmax_hz
    rate, num_samples = front_end.sample_rate_hz, front_end.window_samples
    sound = 0.05 * np.resize(_chirp(low, high, front_end.n_fft // 2, rate), num_samples)
    sound += 0.1 * np.resize(_chirp(high, low, num_samples // 4, rate), num_samples)
    sound += 0.2 * _chirp(low, high, num_samples, rate)
    samples = sound.astype(np.float32)
    if tagger:
        return tagger.embed_all(samples)
    return log_mel(samples, front_end) if contract.inputs == "log_mel" else samples


def _chirp(
    from_hz: float, to_hz: float, num_samples: int, sample_rate_hz: int
) -> npt.NDArray[np.float64]:
    """A linear chirp, shape (num_samples,)."""
    seconds = np.arange(num_samples) / sample_rate_hz
    hz_per_second = (to_hz - from_hz) * sample_rate_hz / num_samples
    cycles = seconds * (from_hz + hz_per_second * seconds / 2)
    return np.sin(2 * np.pi * (cycles % 1.0))
