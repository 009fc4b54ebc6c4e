"""A small corpus, a small tagger and the targets that it gives."""

from pathlib import Path

import numpy as np
import pytest

from semanticac_keras.tagger import Tagger
from tests.micro import PRESET
from training.corpus.reader import Corpus, Recording
from training.pretraining.teacher import Targets, compute_targets


class SmallCorpus(Corpus):
    """Recordings in memory."""

    def __init__(self, waveforms: dict[str, np.ndarray]) -> None:
        self.sample_rate_hz = 32_000
        self.waveforms = list(waveforms.values())
        self.recordings = tuple(
            Recording("own", name, name, "nature", split, 32_000, 0, 0, len(waveform))
            for (name, waveform), split in zip(
                waveforms.items(), ["train", "train", "train", "held-out"], strict=True
            )
        )

    def samples(self, index: int) -> np.ndarray:
        return self.waveforms[index]


@pytest.fixture(scope="session")
def corpus() -> SmallCorpus:
    rng = np.random.default_rng(0)
    seconds = {"long": 3.0, "short": 0.1, "exact": 0.64, "unheard": 2.0}
    return SmallCorpus(
        {
            name: rng.integers(-3000, 3000, round(32_000 * length)).astype(np.int16)
            for name, length in seconds.items()
        }
    )


@pytest.fixture(scope="session")
def teacher(tiny_tagger: Path) -> Tagger:
    return Tagger(tiny_tagger, 32_000)  # windows of an eighth of a second


class SlowTeacher:
    """Hears 0.6 s at once, and answers with its loudness."""

    name, sha256 = "slow", "0"
    sample_rate_hz, window_samples = 8_000, 4_800

    def hear_window(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.clip(np.abs(window[:3]), 0.0, 1.0), window[:7]


@pytest.fixture(scope="session")
def both_targets(tmp_path_factory, corpus, targets) -> list[Targets]:
    """Targets of the tagger and of a teacher with longer windows."""
    directory = tmp_path_factory.mktemp("targets")
    unit_frames = targets.grid.hop_frames
    slow = compute_targets(
        directory, corpus, SlowTeacher(), PRESET.front_end, unit_frames=unit_frames
    )
    return [targets, slow]


@pytest.fixture(scope="session")
def targets(tmp_path_factory, corpus, teacher) -> Targets:
    directory = tmp_path_factory.mktemp("targets")
    return compute_targets(directory, corpus, teacher, PRESET.front_end)
