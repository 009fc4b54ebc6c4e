"""Share of an encoder's work that two overlapping windows have in common."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from edge.types import FloatArray
from semanticac_keras import HTSATEncoder
from semanticac_keras.swin import SwinBlock

# Tolerance for rounding in equal sums of values of magnitude 1.
_SAME = 1e-4


def sharing_table(preset: str, hops: Sequence[int], whole_chunks: bool) -> str:
    """Table of the share of tokens that are equal in two consecutive windows.

    Args:
        preset: name of the preset; its encoder gets random weights.
        hops: log-mel frames between the starts of two windows.
        whole_chunks: use as many frames as the chunks hold, so that no frame is resized. This
            differs from the encoder of the preset.
    """
    encoder = HTSATEncoder.from_preset(preset)
    if whole_chunks:
        frames = encoder.num_chunks * encoder.chunk_frames
        encoder = HTSATEncoder.from_preset(preset, num_frames=frames)
    rng = np.random.default_rng(0)
    for variable in encoder.trainable_variables:
        if len(variable.shape) > 1:  # large enough to distinguish all tokens
            fan_in = variable.shape[0] if variable.name == "kernel" else 1
            variable.assign(rng.normal(0, fan_in**-0.5, variable.shape))
    sound = rng.normal(0, 1, (encoder.num_frames + max(hops), encoder.num_mels)).astype(np.float32)
    first = _layers(encoder, sound[: encoder.num_frames])
    shares = [
        _shares(encoder, first, _layers(encoder, sound[hop : hop + encoder.num_frames]), hop)
        for hop in hops
    ]
    titles = ["frames", *(f"{hop}" for hop in hops)]
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for index, (name, _, _) in enumerate(first):
        cells = [f"{100 * share[index]:.0f} %" for share in shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    work = np.array([_macs(encoder, name) for name, _, _ in first])
    cells = [f"{100 * float(work @ np.array(share) / work.sum()):.1f} %" for share in shares]
    lines.append(f"| of the multiplications | {' | '.join(cells)} |")
    return "\n".join(lines)


_Layers = list[tuple[str, FloatArray, int]]


def _layers(encoder: HTSATEncoder, log_mel: FloatArray) -> _Layers:
    """Name and output of each layer in time order, and its frames per step.

    Outputs are (steps, rows, channels), with the rows of one chunk.
    """
    picture = encoder._fold(encoder.mel_norm(log_mel[None]))
    x = encoder.patch_embed(picture if encoder.stem_channels else encoder._patches(picture))
    x = encoder.patch_norm(x)
    side, result = encoder.patch_size, []
    for layer in [None, *encoder.stages]:
        x = x if layer is None else layer(x)
        side *= 1 if layer is None or isinstance(layer, SwinBlock) else 2
        rows, columns = encoder.num_mels // side, encoder.chunk_frames // side
        shape = (encoder.num_chunks, rows, columns, x.shape[-1])
        steps = ops.convert_to_numpy(x).reshape(shape).transpose(0, 2, 1, 3)
        name = "patches" if layer is None else layer.name
        result.append((name, steps.reshape(-1, rows, x.shape[-1]), side))
    return result


def _shares(encoder: HTSATEncoder, before: _Layers, after: _Layers, hop: int) -> list[float]:
    """Share of the tokens of each layer that equal those of the previous window."""
    shares = []
    for (_, old, side), (_, new, _) in zip(before, after, strict=True):
        # With resized frames, use the nearest step.
        resized = hop * (encoder.num_chunks * encoder.chunk_frames - 1) / (encoder.num_frames - 1)
        moved = round((hop if encoder._resize is None else resized) / side)
        kept = min(len(old) - moved, len(new))
        same = np.abs(old[moved : moved + kept] - new[:kept]).max(axis=-1) < _SAME
        shares.append(float(same.sum()) / (new.shape[0] * new.shape[1]))
    return shares


def _macs(encoder: HTSATEncoder, name: str) -> int:
    """Multiply-accumulates of a layer."""
    tokens = encoder.num_chunks * encoder.num_mels * encoder.chunk_frames
    layer = next((layer for layer in encoder.stages if layer.name == name), None)
    if layer is None:
        return tokens * encoder.embed_dim  # the patch embedding
    if isinstance(layer, SwinBlock):
        dim, (height, width) = layer.dim, layer.window
        tokens = layer.grid[0] * layer.grid[1]
        return tokens * dim * (int(4 + 2 * layer.mlp_ratio) * dim + 2 * height * width)
    return layer.grid[0] * layer.grid[1] // 4 * 8 * layer.dim**2
