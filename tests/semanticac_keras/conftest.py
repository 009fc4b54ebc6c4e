"""Clips at the size of the micro preset."""

import pytest

from tests.clips import make_clips


@pytest.fixture
def clips():
    """24 clips of one micro window each, with their classes."""
    return make_clips(24, 5120, 8000)
