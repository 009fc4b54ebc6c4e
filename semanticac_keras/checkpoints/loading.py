"""Loading of checkpoints into encoders, with strict matching of names and shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.checkpoints.files import open_checkpoint
from semanticac_keras.checkpoints.hub import hub_preset
from semanticac_keras.checkpoints.layouts import (
    AUDIO_LAYOUTS,
    BERT_LAYOUTS,
    CLAP_LAYOUTS,
    TEXT_LAYOUTS,
    Layout,
)
from semanticac_keras.checkpoints.registry import resolve
from semanticac_keras.checkpoints.slots import (
    AUDIO_BRANCH,
    Slot,
    audio_constants,
    audio_slots,
    bert_slots,
    clap_slots,
    text_slots,
)
from semanticac_keras.checkpoints.stored import Array, CheckpointError, CheckpointFile, StoredTensor
from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.text_encoder import TextEncoder

_HUB_PREFIX = "hub:"
_FUSION_PARTS = ("fusion_model.", "mel_conv2d.")
_SHOWN_PROBLEMS = 8


def load_audio_checkpoint(encoder: HTSATEncoder, source: str | Path) -> None:
    """Load published weights into an audio encoder.

    Args:
        encoder: encoder of the same size as the weights. The registered weights fit the default
            `HTSATEncoder`.
        source: path, `"htsat-audioset"` or `"clap-htsat-unfused"`. Supported are HTS-AT's Lightning
            checkpoints, LAION-CLAP's `.pt` files without fusion, and safetensors of Hugging Face's
            `ClapModel` and `ClapAudioModel`. CLAP's weights were trained with another `FrontEnd`:
            48 kHz and a hop of 480 samples.

    Raises:
        CheckpointError: if the file is not available, damaged or unsafe, or its weights do not
            match the encoder exactly; the encoder then stays unchanged.
    """
    with open_checkpoint(resolve(source)) as file:
        values = values_of(file, match_audio(encoder, file))
    assign(values)


def load_text_checkpoint(text_encoder: TextEncoder | BertEncoder, source: str | Path) -> None:
    """Load published weights into a text encoder.

    A `TextEncoder` may have fewer positions than the 77 of the weights, for example the paper's 76:
    attention is causal, so the outputs stay exact. CLIP's learned logit scale is not read. Files do
    not store the activation: use only weights trained with QuickGELU, such as OpenAI's.

    A `BertEncoder` keeps its own projection. `load_sentence_encoder` also creates the encoder.

    Args:
        text_encoder: encoder of the same size as the weights, except for the context length. RN50's
            weights fit the default `TextEncoder`, MiniLM's the default `BertEncoder`.
        source: path, or for a `TextEncoder` `"clip-rn50"` or `"hub:"` followed by a KerasHub CLIP
            preset, for a `BertEncoder` `"minilm"`. Supported are OpenAI's TorchScript archives,
            open_clip's safetensors and `.pt` files, and safetensors of Hugging Face's `CLIPModel`
            and `CLIPTextModelWithProjection`; for a `BertEncoder` those of BERT, RoBERTa and
            `ClapModel`, or a directory with them.

    Raises:
        CheckpointError: if the file is not available, damaged or unsafe, or its weights do not
            match the encoder exactly; the encoder then stays unchanged.
    """
    if isinstance(source, str) and source.startswith(_HUB_PREFIX):
        file = hub_preset(source.removeprefix(_HUB_PREFIX))
        values = values_of(file, match_text(text_encoder, file))
    else:
        with open_checkpoint(resolve(source)) as file:
            values = values_of(file, match_text(text_encoder, file))
    assign(values)


@dataclass(frozen=True)
class Match:
    """A file's tensors matched with an encoder's weights.

    Args:
        layout: layout of the file.
        weights: each weight with its names in the file.
        constants: names in the file of constants that must equal the encoder's.
        unused: names in the file that are deliberately not read.
        problems: mismatches, one phrase each.
    """

    layout: Layout
    weights: list[tuple[Slot, tuple[str, ...]]]
    constants: list[str]
    unused: list[str]
    problems: list[str]


def find_layout(file: CheckpointFile, layouts: Sequence[Layout]) -> tuple[Layout, str]:
    """Find the layout and the prefix of a file.

    Raises:
        CheckpointError: if no layout fits.
    """
    for layout in layouts:
        if (prefix := layout.prefix_in(file.tensors)) is not None:
            return layout, prefix
    raise CheckpointError(
        f"has no weights named as in {' or '.join(layout.name for layout in layouts)}, but "
        f"{listed([f'`{key}`' for key in file.tensors], shown=3) or 'no tensors'}"
    )


def match_audio(encoder: HTSATEncoder, file: CheckpointFile) -> Match:
    """Match a file with an audio encoder.

    Raises:
        CheckpointError: if no audio layout fits, the file has weights of a fusion, or the encoder
            has a convolutional stem.
    """
    expect_no_fusion(file)
    if encoder.stem_channels:
        raise CheckpointError(
            "has a patch embedding, but the encoder has a convolutional stem. Use a preset without "
            "`stem_channels`, such as base"
        )
    return _match(file, AUDIO_LAYOUTS, audio_slots(encoder), audio_constants(encoder))


def match_clap(
    audio_tower: AudioTower, text_encoder: BertEncoder, log_scale: Any, file: CheckpointFile
) -> Match:
    """Match a file with both towers of CLAP and the variable of its logit scale.

    Raises:
        CheckpointError: if no layout of CLAP fits.
    """
    constants = {
        f"{AUDIO_BRANCH}.{key}": values
        for key, values in audio_constants(audio_tower.encoder).items()
    }
    return _match(file, CLAP_LAYOUTS, clap_slots(audio_tower, text_encoder, log_scale), constants)


def expect_no_fusion(file: CheckpointFile) -> None:
    """Refuse CLAP's variant with feature fusion.

    Raises:
        CheckpointError: if the file has weights of the fusion.
    """
    for key in file.tensors:
        if any(part in key for part in _FUSION_PARTS):
            raise CheckpointError(
                f"its audio branch has feature fusion (`{key}`), which HTS-AT has not. "
                "Use a checkpoint without fusion, such as clap-htsat-unfused"
            )


def match_text(text_encoder: TextEncoder | BertEncoder, file: CheckpointFile) -> Match:
    """Match a file with a text encoder.

    Raises:
        CheckpointError: if no text layout fits.
    """
    if isinstance(text_encoder, BertEncoder):
        return _match(file, BERT_LAYOUTS, bert_slots(text_encoder), {})
    if any(layout.prefix_in(file.tensors) is not None for layout in BERT_LAYOUTS):
        raise CheckpointError(
            "has a sentence encoder's weights: pass its directory, which also has its tokenizer"
        )
    return _match(file, TEXT_LAYOUTS, text_slots(text_encoder), {})


def listed(phrases: Sequence[str], shown: int = _SHOWN_PROBLEMS) -> str:
    """Join the first phrases, and the number of the others."""
    more = [f"and {len(phrases) - shown} more"] if len(phrases) > shown else []
    return ", ".join([*phrases[:shown], *more])


def _match(
    file: CheckpointFile,
    layouts: Sequence[Layout],
    slots: Sequence[Slot],
    constants: Mapping[str, Array],
) -> Match:
    layout, prefix = find_layout(file, layouts)
    weights = [(slot, layout.keys(prefix, slot.key)) for slot in slots]
    own = {layout.keys(prefix, key)[0]: values for key, values in constants.items()}
    problems = []
    for slot, keys in weights:
        shape = slot.shape[::-1] if slot.key in layout.transposed else slot.shape
        if len(keys) > 1:
            shape = (shape[0] // len(keys), *shape[1:])
        for key in keys:
            if problem := _weight_problem(file.tensors.get(key), shape, slot.first_rows):
                problems.append(f"`{key}` {problem}")
    checked = [key for key in own if key in file.tensors]
    for key in checked:
        stored = file.tensors[key]
        if stored.shape != own[key].shape or not np.array_equal(stored.read(), own[key]):
            problems.append(f"`{key}` does not match the encoder's attention windows")
    known = {key for _, keys in weights for key in keys}.union(checked)
    unused = [key for key in file.tensors if key not in known and layout.is_unused(key)]
    left = file.tensors.keys() - known.union(unused)
    problems += [f"`{key}` is unexpected" for key in file.tensors if key in left]
    return Match(layout, weights, checked, unused, problems)


def _weight_problem(
    stored: StoredTensor | None, shape: tuple[int, ...], first_rows: bool
) -> str | None:
    if stored is None:
        return "is missing"
    if not stored.is_floating:
        return f"has dtype {stored.dtype}, expected floating point"
    if first_rows and stored.shape[1:] == shape[1:] and stored.shape[:1] >= shape[:1]:
        return None
    return f"has shape {stored.shape}, expected {shape}" if stored.shape != shape else None


def values_of(file: CheckpointFile, match: Match) -> list[tuple[Any, Array]]:
    """Read the new value of each variable.

    Raises:
        CheckpointError: if the file does not match, or its values are not finite.
    """
    if match.problems:
        raise CheckpointError(
            f"{match.layout.name} weights do not fit this model: {listed(match.problems)}"
        )
    values = []
    for slot, keys in match.weights:
        parts = [file.tensors[key].read() for key in keys]
        original = np.concatenate(parts) if len(parts) > 1 else parts[0]
        if not np.isfinite(original).all():
            raise CheckpointError(f"`{keys[0]}` must be finite. Received: NaN or infinite values")
        if slot.key in match.layout.transposed:
            original = original.T
        values.append((slot.variable, slot.arrange(original).astype(np.float32)))
    return values


def assign(values: Sequence[tuple[Any, Array]]) -> None:
    """Assign all values. They are read before, so that a failure leaves the encoder unchanged."""
    for variable, array in values:
        variable.assign(array)
