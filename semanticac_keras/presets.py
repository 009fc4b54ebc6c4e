"""Presets: named model sizes."""

from dataclasses import dataclass, field
from typing import Any

from edge.inference.frontend import FrontEnd
from semanticac_keras.clip_tokenizer import CLIPTokenizer
from semanticac_keras.tokenizer import ByteTokenizer


@dataclass(frozen=True)
class Preset:
    """Constructor arguments of a model's parts.

    Args:
        description: one-line description for the user.
        front_end: log-mel parameters and window length.
        audio_encoder: arguments of `HTSATEncoder`.
        cscm: arguments of `CSCM`; the other heads share its `output_dim`.
        text_encoder: arguments of `TextEncoder`.
        tokenizer: `"byte"` (needs no vocabulary file) or `"clip"` (CLIP's byte pairs).
    """

    description: str
    front_end: FrontEnd
    audio_encoder: dict[str, Any] = field(default_factory=dict)
    cscm: dict[str, Any] = field(default_factory=dict)
    text_encoder: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "byte"

    @property
    def embedding_dim(self) -> int:
        """Size C of the shared embedding space."""
        return int(self.cscm["output_dim"])


PRESETS: dict[str, Preset] = {
    "base": Preset(
        description="the paper's model: HTS-AT, CLIP RN50's text tower, C = 1024; 10 s windows",
        front_end=FrontEnd(),
        cscm={"output_dim": 1024},
        text_encoder={"context_length": 76},
        tokenizer="clip",
    ),
    "small": Preset(
        description="for small devices and for training from scratch; 5 s windows",
        front_end=FrontEnd(window_seconds=5.0),
        audio_encoder={
            "num_frames": 501,
            "num_chunks": 1,
            "chunk_frames": 512,
            "patch_size": 16,
            "stem_channels": (16, 32, 64, 128),
            "embed_dim": 128,
            "depths": (2, 2),
            "num_heads": (4, 8),
        },
        cscm={"output_dim": 256},
        text_encoder={
            "vocabulary_size": 258,
            "context_length": 96,
            "width": 128,
            "num_layers": 2,
            "num_heads": 4,
            "output_dim": 256,
        },
    ),
    "tiny": Preset(
        description="trains in a minute on a laptop; 2.5 s windows",
        front_end=FrontEnd(window_seconds=2.5),
        audio_encoder={
            "num_frames": 251,
            "num_chunks": 1,
            "embed_dim": 24,
            "depths": (2, 2, 2),
            "num_heads": (1, 2, 4),
            "drop_path": 0.0,
        },
        cscm={"output_dim": 128},
        text_encoder={
            "vocabulary_size": 258,
            "context_length": 96,
            "width": 64,
            "num_layers": 2,
            "num_heads": 2,
            "output_dim": 128,
        },
    ),
}


def get(name: str) -> Preset:
    """Look up a preset by name.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}. Received: {name!r}")
    return PRESETS[name]


def tokenizer(name: str) -> ByteTokenizer | CLIPTokenizer:
    """Create the tokenizer of a preset; CLIP's loads its vocabulary at the first call.

    Raises:
        ValueError: if the preset is unknown.
    """
    preset = get(name)
    if preset.tokenizer == "clip":
        return CLIPTokenizer(context_length=preset.text_encoder.get("context_length", 77))
    return ByteTokenizer(preset.text_encoder["context_length"])
