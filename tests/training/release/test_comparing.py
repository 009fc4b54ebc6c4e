"""Tolerances of the comparison with the packaged model."""

import numpy as np

from training.release import comparing
from training.release.comparing import Scores


def test_differences_beyond_a_tolerance_are_reported():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 4
    shipped = (0.8 * np.eye(4)[truth] + 0.05).astype(np.float32)
    figures = {
        "data": {"sha256": "a" * 64},
        "recipe": {"epochs": 3, "augmentation": {"mixup": 0.1}},
        "bundle": {"labels": ["a"] * 4, "bytes": 5},
        "others": {"sha256": "b", "tested": {"per_hour": 6.0, "per_hour_interval": [2.0, 11.0]}},
    }

    def wrong(made=figures, scores=shipped, most_bytes=5):
        rows = comparing.compare(figures, made, Scores(shipped, scores, truth), most_bytes)
        return [row.what for row in rows if not row.fits]

    assert wrong() == []
    noise = rng.uniform(-0.02, 0.02, shipped.shape).astype(np.float32)
    assert wrong(scores=shipped + noise) == []
    assert wrong(scores=np.roll(shipped, 3, axis=0)) == [
        *("right on the training clips", "clips with the same label"),
        "mean difference of a score",
    ]
    assert wrong(most_bytes=4) == ["bytes"]
    # Older versions wrote distillation options into every recipe.
    assert wrong(figures | {"recipe": {**figures["recipe"], "teacher_views": 8}}) == []
    assert wrong(figures | {"data": {"sha256": "c"}}) == ["data, SHA-256"]
    assert wrong(figures | {"recipe": {"epochs": 3, "augmentation": {"mixup": 0.2}}}) == ["recipe"]
    louder = {"sha256": "b", "tested": {"per_hour": 20.0, "per_hour_interval": [12.0, 30.0]}}
    assert wrong(figures | {"others": louder}) == ["false accepts an hour"]
    # Rates on different sounds are not compared.
    assert wrong(figures | {"others": louder | {"sha256": "d"}}) == []
