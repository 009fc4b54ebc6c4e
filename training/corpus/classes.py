"""Kinds of sounds by a tagger with AudioSet's 521 classes, such as YAMNet."""

from bisect import bisect_right
from pathlib import Path

import numpy as np

from edge.types import FloatArray
from semanticac_keras.tagger import Tagger
from training.corpus.decoding import SAMPLE_RATE_HZ, Classify
from training.corpus.sources import CorpusError

NUM_CLASSES = 521

# The first class of each range of AudioSet's list, and the kind of the range; None says nothing.
_RANGES: tuple[tuple[int, str | None], ...] = (
    (0, "speech"),
    (6, "human"),
    (12, "speech"),  # whispering
    (13, "human"),
    (24, "music"),  # singing
    (33, "human"),
    (67, "animals"),
    (132, "music"),
    (195, "signals"),  # bells
    (203, "music"),
    (277, "nature"),
    (294, "vehicles"),
    (348, "household"),
    (382, "signals"),
    (398, "machines"),
    (420, "weapons"),
    (431, "impacts"),
    (438, "nature"),  # liquids
    (451, "synthetic"),
    (452, "impacts"),
    (456, "synthetic"),
    (459, "impacts"),
    (475, "signals"),
    (478, "impacts"),
    (482, "machines"),
    (483, "impacts"),
    (490, "machines"),
    (491, "impacts"),
    (494, None),  # silence
    (495, "synthetic"),
    (500, "ambience"),
    (505, None),
    (507, "ambience"),
    (509, "synthetic"),
    (518, None),
)
_STARTS = [start for start, _ in _RANGES]
_EXCERPTS = 3
# Below this mean score of the best class, the tagger has no opinion.
_MIN_SCORE = 0.1


def kind_of_class(sound_class: int) -> str | None:
    """Return the kind of a class; None if it says nothing, as for -1."""
    return None if sound_class < 0 else _RANGES[bisect_right(_STARTS, sound_class) - 1][1]


def classifier(path: Path) -> tuple[Classify, str]:
    """Return a function from a waveform to its class by a `.tflite` tagger, and the file's digest.

    The function listens to up to three excerpts, evenly spread. It returns -1 where no class stands
    out.

    Raises:
        CorpusError: if the tagger has other classes.
        TaggerError: if the file is no tagger.
    """
    tagger = Tagger(path)
    if tagger.num_scores != NUM_CLASSES:
        raise CorpusError(
            f"{path} must have AudioSet's {NUM_CLASSES} classes, as YAMNet has. "
            f"Received: {tagger.num_scores}."
        )
    length = round(tagger.window_samples * SAMPLE_RATE_HZ / tagger.sample_rate_hz)

    def classify(waveform: FloatArray) -> int:
        last = max(0, len(waveform) - length)
        count = min(_EXCERPTS, 1 + last // length)
        starts = np.linspace(0, last, count).astype(int).tolist()
        scores = [
            tagger.hear(waveform[start : start + length], SAMPLE_RATE_HZ)[0].mean(axis=0)
            for start in starts
        ]
        mean = np.mean(scores, axis=0)
        best = int(mean.argmax())
        return best if mean[best] >= _MIN_SCORE else -1

    return classify, tagger.sha256
