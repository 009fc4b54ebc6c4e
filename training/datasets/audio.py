"""Reading of clips."""

from edge.types import FloatArray
from semanticac_keras.sound_files import read_waveform
from training.datasets.base import Clip, DatasetError


def read_clip(clip: Clip, sample_rate_hz: int) -> FloatArray:
    """Return the waveform of a clip's file or segment; see `read_waveform`."""
    if clip.path is None:
        raise DatasetError("has no file")
    return read_waveform(clip.path, sample_rate_hz, clip.segment)
