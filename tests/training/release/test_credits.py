"""Credits of the recordings in the training data."""

import pytest

from training.datasets import DatasetError
from training.release.credits import Credit, check_credits, read_credits
from training.release.shipment import SHIPMENTS


def test_every_recording_of_esc10_has_an_author():
    path = SHIPMENTS["esc10-small"].credits
    (credit,) = read_credits(path, ["100032"])
    assert credit == Credit("100032", "nfrae", "rose_bark.wav", "CC0")
    assert credit.url == "https://freesound.org/s/100032/"
    assert len(read_credits(path, [line.split(",")[0] for line in _lines(path)])) == 304
    with pytest.raises(DatasetError, match="1 recordings have no author"):
        read_credits(path, ["100032", "7"])


def _lines(path):
    return path.read_text(encoding="utf-8").splitlines()[1:]


def test_credits_must_match_the_archive(tmp_path):
    archive = tmp_path / "LICENSE"
    archive.write_text(
        "101 - Dog:\n- [1-7-A.ogg]:  clip derived from a (b).wav "
        "(http://www.freesound.org/people/A%20B/sounds/7/) by A B [CC-BY]\n"
    )
    check_credits([Credit("7", "A B", "a (b).wav", "CC BY")], archive)
    for wrong in (Credit("7", "A C", "a", "CC BY"), Credit("7", "A B", "a", "CC0")):
        with pytest.raises(DatasetError, match="other authors or licences of 1 recordings: 7"):
            check_credits([wrong], archive)
