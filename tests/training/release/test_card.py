"""The packaged card and its figures."""

import json

from edge.inference import packaged
from training.release.card import write_card
from training.release.credits import read_credits
from training.release.shipment import SHIPMENTS


def test_packaged_card_is_written_from_its_figures():
    files = packaged.packaged_model()
    name = files.card.stem
    path = SHIPMENTS[name].credits
    sources = [line.split(",")[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]]

    card = write_card(name, json.loads(files.figures.read_text()), read_credits(path, sources))

    independent = json.loads(files.figures.read_text())
    independent["bundle"]["exclusive"] = False
    text = write_card(name, independent, read_credits(path, sources))
    assert "an unknown sound is none unless" in text
    assert "no class for other sounds" not in text
    # A plain comparison: pytest's difference of two long texts is slow.
    assert (card == files.card.read_text(encoding="utf-8")) is True
