"""A model small enough to train in seconds."""

import pytest


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the preset of `tests.micro`, known while the test runs."""
    presets = pytest.importorskip("semanticac_keras.presets")
    from tests import micro

    monkeypatch.setitem(presets.PRESETS, micro.NAME, micro.PRESET)
    return micro.NAME
