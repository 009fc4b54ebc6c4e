"""The bundle: one `.tflite` file with its contract in an appended zip.

The zip follows the TFLite convention for associated files: interpreters read the flatbuffer from
the front and ignore the rest; any zip tool lists the rest. The device needs no other file.
"""

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from edge.files import replacing
from edge.inference.frontend import FrontEnd

Inputs = Literal["log_mel", "waveform", "embeddings"]
Quantization = Literal["float32", "float16", "dynamic_int8"]

# Version 3 adds a tagger, version 4 independent scores. A bundle has the lowest version that
# describes it, so that earlier runtimes read it if they can.
SCHEMA_VERSION, TAGGER_SCHEMA_VERSION, INDEPENDENT_SCHEMA_VERSION = 2, 3, 4
SCHEMA_VERSIONS = (SCHEMA_VERSION, TAGGER_SCHEMA_VERSION, INDEPENDENT_SCHEMA_VERSION)
CONTRACT_NAME = "semanticac.json"
TAGGER_NAME = "tagger.tflite"

# Keys of earlier releases that nothing ever used.
# Ten thousand labels with their texts take a tenth of it.
_MOST_CONTRACT_BYTES = 16 << 20
_OBSOLETE_KEYS = ("calibration",)

_FLATBUFFER_IDENTIFIER = b"TFL3"


class BundleError(Exception):
    """A bundle is missing, damaged, or of another version."""


@dataclass(frozen=True)
class Probe:
    """The model's output for `edge.inference.probe.probe_input`, measured at export.

    Args:
        scores: one score per label.
        cosines: one cosine similarity per label.

    Raises:
        ValueError: if their numbers differ.
    """

    scores: tuple[float, ...]
    cosines: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.cosines):
            raise ValueError(
                "a probe must have as many scores as cosines. "
                f"Received: {len(self.scores)} and {len(self.cosines)}."
            )


@dataclass(frozen=True)
class TaggerContract:
    """A tagger whose embeddings, or scores in their place, are the input of the model's graph.

    Tagger window t contains the samples from `t * hop_samples` on.

    Args:
        name: file name of the tagger.
        sha256: digest of its flatbuffer, the second file of the bundle.
        window_samples: samples in a tagger window.
        hop_samples: samples between the starts of two tagger windows.
        embedding_dim: size D of an embedding.
        output: index of the tensor with the embedding, (..., D); averaged over all other axes.

    Raises:
        ValueError: if a number is not positive.
    """

    name: str
    sha256: str
    window_samples: int
    hop_samples: int
    embedding_dim: int
    output: int

    def __post_init__(self) -> None:
        if min(self.window_samples, self.hop_samples, self.embedding_dim) < 1:
            raise ValueError(f"a tagger's sizes must be positive. Received: {self}.")

    def windows_in(self, num_samples: int) -> int:
        """Number of complete tagger windows in `num_samples` samples."""
        return max(0, 1 + (num_samples - self.window_samples) // self.hop_samples)


@dataclass(frozen=True)
class BundleContract:
    """Everything the device needs to know about the model.

    Args:
        front_end: how samples become the model's input.
        inputs: the graph's input: `"log_mel"` (1, frames, mels), `"waveform"` (1, samples) or
            `"embeddings"` (1, tagger windows, D).
        labels: class names, in the order of the `scores` and `cosines` outputs.
        prompts: the text that each label's embedding was computed from; several are joined by "; ".
        embedding_dim: size of the `embedding` output.
        logit_scale: factor on the cosine similarities before the softmax or the sigmoid.
        quantization: `"float32"`, `"float16"` or `"dynamic_int8"`.
        probe: output that a device must reproduce before it uses the model; see
            `edge.inference.interpreter.measure_probe`. Every bundle has one.
        parity: largest differences from the Keras model, measured at export.
        training: training record: dataset, folds, accuracy, versions.
        licence: terms of the weights.
        tagger: the tagger that computes the embeddings; for `"embeddings"` only.
        exclusive: whether a sound has exactly one label: the scores are a softmax and sum to 1.
            Otherwise each score is a sigmoid by itself: several labels may score high, or none.
        logit_bias: summand after the scale; for independent scores only.

    Raises:
        ValueError: if `inputs` or `quantization` is unknown, the labels are empty, repeated or not
            text, the number of prompts or probe outputs differs from the number of labels,
            there is a tagger without `"embeddings"` or the other way round, or exclusive scores
            have a bias.
    """

    front_end: FrontEnd
    inputs: Inputs
    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    embedding_dim: int
    logit_scale: float
    quantization: Quantization
    probe: Probe | None = None
    parity: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    tagger: TaggerContract | None = None
    exclusive: bool = True
    logit_bias: float = 0.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("inputs", self.inputs, get_args(Inputs)),
            ("quantization", self.quantization, get_args(Quantization)),
        ):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {known}. Received: {value!r}.")
        if not self.labels or not all(isinstance(label, str) for label in self.labels):
            raise ValueError(f"`labels` must be one or more names. Received: {self.labels}.")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"`labels` must differ. Received: {self.labels}.")
        if len(self.prompts) != len(self.labels):
            raise ValueError(
                f"`prompts` must be one for each of the {len(self.labels)} labels. "
                f"Received: {len(self.prompts)}."
            )
        if self.probe and len(self.probe.scores) != len(self.labels):
            raise ValueError(
                f"`probe` must have an output for each of the {len(self.labels)} labels. "
                f"Received: {len(self.probe.scores)}."
            )
        if not isinstance(self.exclusive, bool):
            raise ValueError(f"`exclusive` must be true or false. Received: {self.exclusive!r}.")
        if not math.isfinite(self.logit_bias) or (self.exclusive and self.logit_bias):
            raise ValueError(
                "`logit_bias` must be finite, and 0 for exclusive scores. "
                f"Received: {self.logit_bias}."
            )
        if (self.tagger is None) is (self.inputs == "embeddings"):
            raise ValueError(
                'a tagger is needed for the inputs "embeddings", and only for these. '
                f"Received: {self.inputs!r} with {self.tagger}."
            )
        if self.tagger and self.tagger.window_samples > self.front_end.window_samples:
            raise ValueError(
                f"a window must hold a tagger window of {self.tagger.window_samples} samples. "
                f"Received: {self.front_end.window_samples}."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the graph's input, including the batch axis."""
        if self.inputs == "waveform":
            return (1, self.front_end.window_samples)
        if self.tagger:
            num_windows = self.tagger.windows_in(self.front_end.window_samples)
            return (1, num_windows, self.tagger.embedding_dim)
        return (1, self.front_end.num_frames, self.front_end.num_mels)


def write_bundle(
    path: str | os.PathLike[str],
    model: bytes,
    contract: BundleContract,
    tagger: bytes | None = None,
) -> None:
    """Write a model, its contract and its tagger as one file, or leave `path` unchanged.

    Args:
        path: file to write.
        model: TFLite flatbuffer.
        contract: contract of the model.
        tagger: flatbuffer of `contract.tagger`, if there is one.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if a flatbuffer is not one, the contract has no probe, or the tagger is not the
            contract's.
    """
    if contract.probe is None:
        raise ValueError(
            "`contract` must have a `probe`: see edge.inference.interpreter.measure_probe."
        )
    for name, content in (("model", model), ("tagger", tagger)):
        if content is not None and content[4:8] != _FLATBUFFER_IDENTIFIER:
            raise ValueError(f"`{name}` must be a TFLite flatbuffer. Received: {content[:8]!r}.")
    expected = contract.tagger and contract.tagger.sha256
    received = None if tagger is None else hashlib.sha256(tagger).hexdigest()
    if received != expected:
        raise ValueError(f"`tagger` must have the digest {expected}. Received: {received}.")
    version = SCHEMA_VERSION if tagger is None else TAGGER_SCHEMA_VERSION
    values = asdict(contract) | {
        "schema_version": version if contract.exclusive else INDEPENDENT_SCHEMA_VERSION,
        "model_bytes": len(model),
        "model_sha256": hashlib.sha256(model).hexdigest(),
    }
    if tagger is None:
        del values["tagger"]
    if contract.exclusive:
        del values["exclusive"], values["logit_bias"]
    with replacing(path) as temporary:
        temporary.write_bytes(model)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(CONTRACT_NAME, json.dumps(values, indent=1, ensure_ascii=False))
            if tagger is not None:
                archive.writestr(TAGGER_NAME, tagger)


def read_contract(path: str | os.PathLike[str]) -> BundleContract:
    """Read a bundle's contract and check the entire file against it.

    Raises:
        BundleError: if the file is missing, not a bundle, truncated, altered, or has another
            schema version.
    """
    path = Path(path)
    values = _read_json(path)
    version = values.pop("schema_version", None)
    if version not in SCHEMA_VERSIONS:
        raise BundleError(
            f"{path} has contract version {version}, this runtime reads "
            f"{', '.join(map(str, SCHEMA_VERSIONS))}. Export the model again with the matching "
            "semanticac-keras."
        )
    for key in _OBSOLETE_KEYS:
        values.pop(key, None)
    try:
        size, digest = int(values.pop("model_bytes")), values.pop("model_sha256")
        tagger = values.pop("tagger", None)
        contract = BundleContract(
            **values
            | {
                "front_end": FrontEnd.from_json(values["front_end"]),
                "labels": tuple(values["labels"]),
                "prompts": tuple(values["prompts"]),
                "probe": Probe(
                    **{name: tuple(map(float, output)) for name, output in values["probe"].items()}
                ),
                "tagger": None if tagger is None else TaggerContract(**tagger),
            }
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"{path} has a contract this runtime cannot read: {error}.") from error
    _check_model(path, size, digest)
    if contract.tagger:
        read_tagger(path, contract.tagger)
    return contract


def read_tagger(path: str | os.PathLike[str], contract: TaggerContract) -> bytes:
    """Read the flatbuffer of a bundle's tagger, and check it.

    Args:
        path: the bundle.
        contract: its tagger's contract.

    Raises:
        BundleError: if the tagger is missing or altered.
    """
    with _archive(Path(path)) as archive:
        content = archive.read(TAGGER_NAME)
    if hashlib.sha256(content).hexdigest() != contract.sha256:
        raise BundleError(
            f"{path} is damaged: its tagger does not match its checksum. Copy it again."
        )
    return content


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(f"No model at {path}.")
    with _archive(path) as archive:
        size = archive.getinfo(CONTRACT_NAME).file_size
        if size > _MOST_CONTRACT_BYTES:
            raise BundleError(
                f"{path} has a contract of {size:,} bytes; at most {_MOST_CONTRACT_BYTES:,} are "
                "read."
            )
        values = json.loads(archive.read(CONTRACT_NAME))
    if not isinstance(values, dict):
        raise BundleError(f"{path} has a contract this runtime cannot read: not an object.")
    return values


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the zip of a bundle; turn all errors of reading it into a `BundleError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except PermissionError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    # A damaged zip directory makes zipfile raise many exceptions besides BadZipFile.
    except (zipfile.BadZipFile, EOFError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise BundleError(
            f"{path} is not a complete semanticac bundle ({error}). "
            "Copy it again, or make one with semanticac_keras.export_tflite."
        ) from error


def _check_model(path: Path, size: int, digest: str) -> None:
    sha256 = hashlib.sha256()
    with path.open("rb") as bundle:
        head = bundle.read(min(size, 1 << 20))
        identifier = head[4:8]
        left = size - len(head)
        sha256.update(head)
        while left > 0 and (block := bundle.read(min(left, 1 << 20))):
            sha256.update(block)
            left -= len(block)
    if identifier != _FLATBUFFER_IDENTIFIER or sha256.hexdigest() != digest:
        raise BundleError(
            f"{path} is damaged: its model does not match its checksum. Copy it again."
        )
