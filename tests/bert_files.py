"""Files of sentence encoders with random weights, as Hugging Face publishes them."""

import json

import keras
import numpy as np

from semanticac_keras import BertEncoder
from semanticac_keras.checkpoints.slots import bert_slots

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "an", "audio", "clip", "of", "a", "dog")
PIECES += ("rain", "##s", "##ing", "bark", *"bcdefghijklmnopqrstuvwxyz", *"!,.")
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": len(PIECES),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


def write_sentence_encoder(directory, **changes):
    """Write config, vocabulary and weights; return the weights by name.

    Args:
        directory: existing directory.
        **changes: other values of `config.json`; None leaves one out.
    """
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "vocab.txt").write_text("\n".join(PIECES))
    keras.utils.set_random_seed(0)
    state = hugging_face_state(
        BertEncoder(len(PIECES), 20, width=8, num_layers=1, num_heads=2, hidden_dim=12)
    )
    write_weights(state, directory)
    return state


def write_weights(state, directory):
    """Write `model.safetensors`: the length of a JSON header, the header, the tensors."""
    header, blocks, begin = {}, [], 0
    for key, values in state.items():
        blocks.append(values.tobytes())
        end = begin + len(blocks[-1])
        dtype = f"{values.dtype.kind.upper()}{8 * values.dtype.itemsize}"
        header[key] = {"dtype": dtype, "shape": values.shape, "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(header).encode()
    content = b"".join([len(text).to_bytes(8, "little"), text, *blocks])
    (directory / "model.safetensors").write_bytes(content)


def hugging_face_state(encoder):
    """The encoder's weights by Hugging Face's names."""
    rng = np.random.default_rng(0)
    state = {}
    for slot in bert_slots(encoder):
        values = rng.normal(size=slot.shape).astype(np.float32)
        if ".qkv." in slot.key:
            for part, third in zip(("query", "key", "value"), np.split(values, 3), strict=True):
                state[slot.key.replace("qkv", part)] = np.ascontiguousarray(third)
        else:
            state[slot.key] = values
    return state
