"""Optional decoder that reads clips with tensorflow-io; see docs/packages.md."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile

from edge.types import FloatArray
from semanticac_keras.sound_files import check_amplitudes, read_header, resample, segment_frames
from training.datasets.base import Clip, DatasetError

# Value of silence and full scale for each sample type of tensorflow-io.
_SCALES = {"uint8": (128, 2**7), "int16": (0, 2**15), "int32": (0, 2**31), "float32": (0, 1)}
# libsndfile subtypes that tensorflow-io reads correctly. It reads 32-bit integers as floats.
_KINDS = frozenset({"FLOAT", "MPEG_LAYER_III", "PCM_16", "PCM_24", "PCM_U8", "VORBIS"})


def clip_reader() -> Callable[[Clip, int], FloatArray]:
    """Return a function equivalent to `training.datasets.audio.read_clip`.

    It resamples with soxr too: tensorflow-io's resampler adds a delay of 32 samples and drops the
    end.

    Raises:
        DatasetError: if tensorflow-io cannot be loaded.
    """
    tensorflow, audio = _load()

    def read_clip(clip: Clip, sample_rate_hz: int) -> FloatArray:
        if clip.path is None:
            raise DatasetError("has no file")
        header = read_header(clip.path)
        kind = soundfile.info(clip.path).subtype
        if kind not in _KINDS:
            raise DatasetError(f"tensorflow-io does not read {kind}; use the decoder soundfile")
        try:
            with tensorflow.device("CPU:0"):
                samples = audio.AudioIOTensor(os.fspath(clip.path)).to_tensor().numpy()
        except (tensorflow.errors.OpError, ValueError) as error:
            raise DatasetError(f"tensorflow-io cannot read it: {_reason(error)}") from error
        if len(samples) < header.num_frames:
            raise DatasetError(
                f"truncated: {len(samples):,} of {header.num_frames:,} frames are readable"
            )
        silence, full_scale = _SCALES[samples.dtype.name]
        floats = (samples.astype(np.float32) - np.float32(silence)) / np.float32(full_scale)
        if clip.segment is not None:
            floats = floats[slice(*segment_frames(clip.segment, header))]
        check_amplitudes(floats)
        return resample(floats.mean(axis=1), header.sample_rate_hz, sample_rate_hz)

    return read_clip


def _load() -> tuple[Any, Any]:
    """Import TensorFlow and tensorflow-io's audio module, and check that it works."""
    try:
        import tensorflow
        import tensorflow_io

        # The first operation loads the native library, which fits one version of TensorFlow.
        with tensorflow.device("CPU:0"):
            tensorflow_io.audio.encode_wav(np.zeros((1, 1), np.int16), 8000)
    except (ImportError, NotImplementedError, RuntimeError, AttributeError) as error:
        raise DatasetError(
            f"tensorflow-io cannot be loaded ({_reason(error)}). The decoder `tfio` needs Python "
            "3.11 and pip install 'semanticac-keras[card]'; the decoder `soundfile` needs neither."
        ) from error
    return tensorflow, tensorflow_io.audio


def _reason(error: Exception) -> str:
    """Return the first line of a message without TensorFlow's function name before it."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.rpartition("}} ")[2].rstrip(".")
