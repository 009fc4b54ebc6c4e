"""Preset and recipe of a model that trains in seconds."""

import keras
import pytest

from edge.inference.frontend import FrontEnd
from semanticac_keras import SemanticAC
from semanticac_keras.presets import PRESETS, Preset
from training.learning.recipes import RECIPES, Recipe

NAME = "micro"

# Two stages, shifted windows and two chunks; 0.64 s windows.
PRESET = Preset(
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
# A step with SGD is traced in half the time of one with AdamW.
RECIPE = Recipe(preset=NAME, epochs=6, batch_size=8, optimizer="sgd", learning_rate=0.05)


def register() -> None:
    """Register the preset and the recipe in this process."""
    PRESETS[NAME] = PRESET
    RECIPES[NAME] = RECIPE


def run_eagerly(patch: pytest.MonkeyPatch) -> None:
    """Compile models without tracing, which takes longer than up to six steps.

    Only TensorFlow: JAX would be slower, and PyTorch traces nothing.
    """

    def compile_eagerly(self, *args, **options):
        compile_model(self, *args, **{"run_eagerly": True, **options})

    if keras.backend.backend() == "tensorflow":
        # Keras compiles a loaded model only if its class does not override `compile`.
        trainer = next(owner for owner in SemanticAC.__mro__ if "compile" in vars(owner))
        compile_model = trainer.compile
        patch.setattr(trainer, "compile", compile_eagerly)
