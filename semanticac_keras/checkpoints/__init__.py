"""Loading of published weights into the two towers.

`load_audio_checkpoint` fills an `HTSATEncoder`, `load_text_checkpoint` a `TextEncoder` or a
`BertEncoder`; `load_sentence_encoder` creates a `BertEncoder` and its tokenizer, `clap.load_clap`
both towers. A source is a path or a name in `registry.REGISTRY`. Loading never executes code from a
file: `pickles` reads pickles without any operation that calls or imports.
"""

from semanticac_keras.checkpoints.loading import load_audio_checkpoint, load_text_checkpoint
from semanticac_keras.checkpoints.sentence import load_sentence_encoder
from semanticac_keras.checkpoints.stored import CheckpointError

__all__ = [
    "CheckpointError",
    "load_audio_checkpoint",
    "load_sentence_encoder",
    "load_text_checkpoint",
]
