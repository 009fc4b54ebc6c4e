"""A model small enough to train in seconds, as a preset of its own."""

import pytest

from edge.inference.frontend import FrontEnd


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a preset with two stages, shifted windows and two chunks; 0.64 s windows."""
    presets = pytest.importorskip("semanticac_keras.presets")
    preset = presets.Preset(
        description="for tests",
        front_end=FrontEnd(8000, 256, 100, 16, 50.0, 4000.0, window_seconds=0.64),
        audio_encoder={
            "num_frames": 52,
            "num_mels": 16,
            "num_chunks": 2,
            "chunk_frames": 32,
            "embed_dim": 8,
            "depths": (2, 1),
            "num_heads": (1, 2),
            "window_size": 4,
            "drop_path": 0.1,
        },
        cscm={"output_dim": 12, "hidden_dim": 8, "reduction": 4},
        text_encoder={
            "vocabulary_size": 258,
            "context_length": 64,
            "width": 16,
            "num_layers": 1,
            "num_heads": 2,
            "output_dim": 12,
        },
    )
    monkeypatch.setitem(presets.PRESETS, "micro", preset)
    return "micro"
