"""Published weights for the two towers.

`load_audio_checkpoint` fills an `HTSATEncoder`, `load_text_checkpoint` a `TextEncoder`. A source is
a path or one of the names of `registry.REGISTRY`. No file is ever executed: pickles are read by
`pickles`, which knows no operation that could call anything.
"""

from semanticac_keras.checkpoints.loading import load_audio_checkpoint, load_text_checkpoint
from semanticac_keras.checkpoints.stored import CheckpointError

__all__ = ["CheckpointError", "load_audio_checkpoint", "load_text_checkpoint"]
