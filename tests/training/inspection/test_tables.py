"""The table of classes."""

import numpy as np

from training.datasets import AudioDataset, Clip
from training.inspection.fingerprints import fingerprint
from training.inspection.sounds import Sound, level_of
from training.inspection.tables import summary


def test_a_clip_counts_for_each_of_its_labels_or_for_none():
    labels = ((0,), (0, 1), (), (1,), ())
    clips = tuple(
        Clip(str(number), label, 1 + number % 2, str(number), None, 2.0)
        for number, label in enumerate(labels)
    )
    noise = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    sounds = [Sound(level_of(noise), fingerprint(noise))] * 5
    dataset = AudioDataset("pets", ("dog", "cat"), clips, "CC0", "", lambda *_: noise)
    rows = [line.split() for line in summary(dataset, sounds).splitlines()[3:6]]
    assert [(*row[:-8], row[-8]) for row in rows] == [
        ("dog", "2"),
        ("cat", "2"),
        ("(no", "label)", "2"),
    ]
