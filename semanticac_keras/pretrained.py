"""Audio towers pretrained in the space of a sentence encoder, and the texts that they know."""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.files import replacing
from edge.types import FloatArray
from semanticac_keras import presets
from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.centered_text import CenteredText
from semanticac_keras.checkpoints.sentence import load_sentence_encoder
from semanticac_keras.checkpoints.stored import CheckpointError
from semanticac_keras.class_profile import NameMixture
from semanticac_keras.subword_tokenizer import SubwordTokenizer
from semanticac_keras.text_table import TextRows, TextTable

# Stands for the weights that come with the package.
PRETRAINED = "pretrained"
PRESET = "small"
SUFFIX = ".npz"
_PACKAGED = Path(str(resources.files("semanticac_keras") / "weights" / f"{PRESET}{SUFFIX}"))
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class TextSpace:
    """Texts with their vectors in the space of a sentence encoder, around their centre.

    Args:
        names: N texts.
        vectors: their unit vectors, (N, C).
        center: what `CenteredText` subtracts from the encoder's vectors, (C,).
        encoder: name or path of the encoder, see `load_sentence_encoder`.
    """

    names: tuple[str, ...]
    vectors: FloatArray
    center: FloatArray
    encoder: str = "minilm"

    def text_tower(
        self, texts: Sequence[str]
    ) -> tuple[TextTable, TextRows] | tuple[NameMixture, SubwordTokenizer]:
        """Return text encoder and tokenizer for texts: `known` if it has all, or `mixture`.

        Raises:
            CheckpointError: if the sentence encoder is needed and not available.
        """
        table, rows = self.known()
        return (table, rows) if all(text in rows for text in texts) else self.mixture()

    def known(self) -> tuple[TextTable, TextRows]:
        """Return text encoder and tokenizer of the N texts."""
        rows = TextRows(self.names)
        return TextTable(len(rows.texts), len(self.center), self.vectors, name="text_encoder"), rows

    def any_text(self) -> tuple[CenteredText, SubwordTokenizer]:
        """Load the sentence encoder, for any texts.

        Raises:
            CheckpointError: if it is not available, or not one of this size.
        """
        encoder, tokenizer = self._sentence_encoder()
        centered = CenteredText(encoder, name="text_encoder")
        centered.center.assign(self.center)
        return centered, tokenizer

    def mixture(self) -> tuple[NameMixture, SubwordTokenizer]:
        """Load the sentence encoder, for any texts as mixtures of the N.

        It has one more value than the space, see `NameMixture`. Without training, it places other
        texts better than `any_text`, whose direction between the known ones no clip has taught.

        Raises:
            CheckpointError: as `any_text`.
        """
        encoder, tokenizer = self._sentence_encoder()
        mixture = NameMixture(encoder, self.names, name="text_encoder")
        mixture.center.assign(self.center)
        mixture.name_vectors.assign(self.vectors)
        return mixture, tokenizer

    def _sentence_encoder(self) -> tuple[BertEncoder, SubwordTokenizer]:
        encoder, tokenizer = load_sentence_encoder(self.encoder)
        if encoder.output_dim != len(self.center):
            raise CheckpointError(
                f"{self.encoder} must have vectors of {len(self.center)} values, as the encoder "
                f"that the tower was trained with. Received: {encoder.output_dim}"
            )
        return encoder, tokenizer


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pretrained audio tower.

    Args:
        preset: preset of the tower.
        audio_tower: the tower, with a `CSCM`.
        space: the space of its embeddings, with the texts that it was trained on.
        log_scale: logarithm of the scale of cosines.
        bias: bias of the independent scores.
        about: where the weights are from: corpus, teacher and settings, as plain values.
    """

    preset: str
    audio_tower: AudioTower
    space: TextSpace
    log_scale: float
    bias: float
    about: dict[str, Any]


def is_pretrained(source: str | os.PathLike[str]) -> bool:
    """Return whether a source is `"pretrained"`, or the path of such a file."""
    return source == PRETRAINED or Path(source).suffix == SUFFIX


def load_pretrained(source: str | os.PathLike[str] = PRETRAINED, **overrides: Any) -> Pretrained:
    """Load a pretrained audio tower.

    Args:
        source: `"pretrained"`, the one that comes with the package; or the path of a file that
            `training.pretrain` wrote.
        **overrides: arguments of `HTSATEncoder` that have no weights, such as `spec_augment`.

    Raises:
        CheckpointError: if the file is missing, damaged or of another kind.
    """
    path = _PACKAGED if source == PRETRAINED else Path(source).expanduser()
    if not path.is_file():
        known = "this installation has none" if source == PRETRAINED else "no such file"
        raise CheckpointError(f"pretrained weights cannot be read from {path}: {known}")
    try:
        return _read(path, overrides)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} holds no pretrained audio tower: {reason}") from error


def _read(path: Path, overrides: dict[str, Any]) -> Pretrained:
    # Of a damaged file that it opens itself, numpy leaves the handle open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        settings = json.loads(str(arrays["settings"]))
        if settings["format"] != _FORMAT:
            raise ValueError(f"its format is {settings['format']}, here {_FORMAT}")
        space = TextSpace(
            tuple(settings["names"]),
            arrays["vectors"].astype(np.float32),
            arrays["center"].astype(np.float32),
            settings["text_encoder"],
        )
        tower = AudioTower.from_preset(
            settings["preset"], output_dim=len(space.center), **overrides
        )
        values = [arrays[f"weight{i}"] for i in range(len(tower.weights))]
        for weight, value in zip(tower.weights, values, strict=True):
            if not np.isfinite(value).all():
                raise ValueError(f"{weight.path} is not finite")
            weight.assign(value.astype(np.float32))
        return Pretrained(
            settings["preset"],
            tower,
            space,
            settings["log_scale"],
            settings["bias"],
            settings["about"],
        )


def save_pretrained(pretrained: Pretrained, path: Path) -> None:
    """Write a pretrained tower, in half precision.

    Args:
        pretrained: the tower and its space. Its front end and sizes must be the preset's.
        path: file, which is replaced once it is complete.

    Raises:
        OSError: if it cannot be written.
        ValueError: if a weight is not finite in half precision, or the front end is another one.
    """
    tower, space = pretrained.audio_tower, pretrained.space
    if tower.front_end != presets.get(pretrained.preset).front_end:
        raise ValueError(f"`audio_tower` must have the front end of {pretrained.preset}")
    arrays: dict[str, Any] = {
        f"weight{i}": _half(weight.path, weight) for i, weight in enumerate(tower.weights)
    }
    settings = {
        "format": _FORMAT,
        "preset": pretrained.preset,
        "names": space.names,
        "log_scale": float(pretrained.log_scale),
        "bias": float(pretrained.bias),
        "text_encoder": space.encoder,
        "about": pretrained.about,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            settings=np.array(json.dumps(settings)),
            center=space.center.astype(np.float32),
            vectors=_half("vectors", space.vectors),
            **arrays,
        )


def _half(name: str, values: Any) -> np.ndarray[Any, np.dtype[np.float16]]:
    with np.errstate(over="ignore"):
        half = keras.ops.convert_to_numpy(values).astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(f"{name} must be finite in half precision")
    return half
