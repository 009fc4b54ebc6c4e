"""The picture of an inspection, as a PNG file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from edge import FrontEnd, log_mel
from edge.files import replacing
from training.datasets.base import AudioDataset
from training.inspection.sounds import Sound

_MOST_EXAMPLES = 50
_COLUMNS = 8
_FRONT_END = FrontEnd(window_seconds=5.0)


def plot_inspection(dataset: AudioDataset, sounds: Sequence[Sound], path: Path) -> None:
    """Write the classes' sizes, the clips' durations and levels, and a log-mel of each class.

    Args:
        dataset: the dataset; one clip of each of the first 50 classes is read.
        sounds: one measurement per clip.
        path: file to write.

    Raises:
        DatasetError: if a clip cannot be read.
    """
    rows = -(-min(_MOST_EXAMPLES, len(dataset.labels)) // _COLUMNS)
    heights = (max(3.0, 0.8 + 0.22 * len(dataset.labels)), 0.3 + 1.7 * rows)
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    _draw_distributions(parts[0].subplots(1, 3), dataset, sounds)
    _draw_examples(parts[1].subplots(rows, _COLUMNS, squeeze=False).ravel(), dataset)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _draw_distributions(panels: Any, dataset: AudioDataset, sounds: Sequence[Sound]) -> None:
    """Draw the number of clips of each class, their durations and their levels."""
    balance, durations, levels = panels
    sizes = Counter(label for clip in dataset.clips for label in clip.labels)
    bars = balance.barh(dataset.labels, [sizes[i] for i in range(len(dataset.labels))])
    balance.bar_label(bars, padding=3)
    balance.margins(x=0.15)
    balance.set_ylim(len(dataset.labels) - 0.4, -0.6)
    balance.set_xlabel("clips")
    durations.hist([clip.duration_seconds for clip in dataset.clips], bins=40)
    durations.set_xlabel("duration in s")
    audible = [sound.level.rms for sound in sounds if not sound.level.constant]
    levels.hist(20 * np.log10(audible) if audible else [], bins=40)
    levels.set_xlabel("level in dBFS; digital silence is left out")


def _draw_examples(panels: Any, dataset: AudioDataset) -> None:
    """Draw the log-mel of the first clip of each class, at most five seconds."""
    by_clip = reversed(list(enumerate(dataset.clips)))
    firsts = {label: i for i, clip in by_clip for label in clip.labels}
    labels = range(min(_MOST_EXAMPLES, len(dataset.labels)))
    waveforms = dataset.load([firsts[label] for label in labels], _FRONT_END.sample_rate_hz)
    for panel in panels[len(labels) :]:
        panel.set_visible(False)
    for panel, label, waveform in zip(panels, labels, waveforms, strict=False):
        decibels = log_mel(waveform[: _FRONT_END.window_samples], _FRONT_END).T
        panel.imshow(
            decibels, origin="lower", aspect="auto", vmin=decibels.max() - 70, cmap="magma"
        )
        panel.set_title(dataset.labels[label], fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
