"""Files of a small CLAP model with random weights, as Hugging Face publishes them."""

import json

import keras
import numpy as np

from edge.inference.frontend import FrontEnd
from semanticac_keras import AudioTower, BertEncoder, HTSATEncoder, PooledMLP
from semanticac_keras.checkpoints.layouts import CLAP_LAYOUTS
from semanticac_keras.checkpoints.slots import clap_slots
from tests.bert_files import PIECES, write_weights

LOG_SCALE = 2.5
CONFIG = {
    "model_type": "clap",
    "projection_dim": 6,
    "text_config": {
        "vocab_size": len(PIECES),
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 12,
        "max_position_embeddings": 22,
    },
    "audio_config": {
        "num_mel_bins": 16,
        "spec_size": 32,
        "patch_embeds_hidden_size": 8,
        "depths": [1],
        "num_attention_heads": [2],
        "window_size": 4,
    },
}
FRONT_END = FrontEnd(8000, 256, 100, 16, 50.0, 4000.0, window_seconds=0.64)
PREPROCESSOR = {
    "sampling_rate": 8000,
    "fft_window_size": 256,
    "hop_length": 100,
    "feature_size": 16,
    "frequency_min": 50,
    "frequency_max": 4000,
    "max_length_s": 0.64,
    "truncation": "rand_trunc",
    "padding": "repeatpad",
}


def write_clap(directory, layout="Hugging Face CLAP"):
    """Write settings, vocabulary and weights; return the weights by name."""
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (directory / "vocab.txt").write_text("\n".join(PIECES))
    state = clap_state(layout)
    write_weights(state, directory)
    return state


def clap_state(layout):
    """Random weights with a publisher's names."""
    encoder = HTSATEncoder(
        52, 16, num_chunks=2, chunk_frames=32, embed_dim=8, depths=(1,), num_heads=(2,),
        window_size=4,
    )  # fmt: skip
    tower = AudioTower(FRONT_END, encoder, PooledMLP(6))
    text_encoder = BertEncoder(
        len(PIECES), 20, 64, 1, 1, 12, num_token_types=1, position_offset=2, pooling="pooler",
        mlp_dim=6,
    )  # fmt: skip
    names = next(each for each in CLAP_LAYOUTS if each.name == layout)
    rng = np.random.default_rng(0)
    state = {}
    for slot in clap_slots(tower, text_encoder, keras.Variable(0.0)):
        keys = names.keys(names.prefixes[0], slot.key)
        values = rng.uniform(0.1, 1.0, slot.shape).astype(np.float32)
        thirds = np.split(values, len(keys)) if len(keys) > 1 else [values]
        state |= {key: np.ascontiguousarray(part) for key, part in zip(keys, thirds, strict=True)}
        if slot.key == "logit_scale_a":
            state[keys[0]] = np.array(LOG_SCALE, np.float32)
    return state
