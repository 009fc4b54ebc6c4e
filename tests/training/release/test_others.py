"""Division of other sounds into a half that chooses thresholds and a half that tests them."""

import pytest

from training.datasets import Clip, DatasetError
from training.release.others import halves


def make_clip(name, source):
    return Clip(name, label=0, fold=1, source=source, path=None, duration_seconds=5.0)


def test_halves_share_no_category_and_no_recording():
    others = [(f"kind {i % 7}", make_clip(f"clip {i}", f"recording {i // 2}")) for i in range(70)]
    first, second = halves(others)
    assert not set(first.categories) & set(second.categories)
    sources = [{clip.source for clip in half.clips} for half in (first, second)]
    assert not sources[0] & sources[1]
    assert min(len(first.clips), len(second.clips)) >= 10
    assert halves(others[::-1])[0].categories == first.categories
    with pytest.raises(DatasetError, match="at least two categories") as caught:
        halves(others[:1])
    assert "Give --data-dir" in str(caught.value)
