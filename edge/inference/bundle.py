"""The bundle: one `.tflite` file with its contract in an appended zip.

The zip follows the TFLite convention for associated files: interpreters read the flatbuffer from
the front and ignore the rest; any zip tool lists the rest. The device needs no other file.
"""

import hashlib
import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from edge.files import replacing
from edge.inference.frontend import FrontEnd

Inputs = Literal["log_mel", "waveform"]
Quantization = Literal["float32", "float16", "dynamic_int8"]

SCHEMA_VERSION = 2
CONTRACT_NAME = "semanticac.json"

# Keys of earlier releases that nothing ever used.
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
class BundleContract:
    """Everything the device needs to know about the model.

    Args:
        front_end: how samples become the model's input.
        inputs: the graph's input: `"log_mel"` (1, frames, mels) or `"waveform"` (1, samples).
        labels: class names, in the order of the `scores` and `cosines` outputs.
        prompts: the text that each label's embedding was computed from.
        embedding_dim: size of the `embedding` output.
        logit_scale: factor on the cosine similarities before the softmax.
        quantization: `"float32"`, `"float16"` or `"dynamic_int8"`.
        probe: output that a device must reproduce before it uses the model; see
            `edge.inference.interpreter.measure_probe`. Every bundle has one.
        parity: largest differences from the Keras model, measured at export.
        training: training record: dataset, folds, accuracy, versions.
        licence: terms of the weights.

    Raises:
        ValueError: if `inputs` or `quantization` is unknown, the labels are empty, repeated or not
            text, or the number of prompts or probe outputs differs from the number of labels.
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

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the graph's input, including the batch axis."""
        if self.inputs == "waveform":
            return (1, self.front_end.window_samples)
        return (1, self.front_end.num_frames, self.front_end.num_mels)


def write_bundle(path: str | os.PathLike[str], model: bytes, contract: BundleContract) -> None:
    """Write `model` (a TFLite flatbuffer) and its contract as one file, or leave `path` unchanged.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if `model` is not a TFLite flatbuffer, or the contract has no probe.
    """
    if contract.probe is None:
        raise ValueError(
            "`contract` must have a `probe`: see edge.inference.interpreter.measure_probe."
        )
    if model[4:8] != _FLATBUFFER_IDENTIFIER:
        raise ValueError(f"`model` must be a TFLite flatbuffer. Received: {model[:8]!r}.")
    values = asdict(contract) | {
        "schema_version": SCHEMA_VERSION,
        "model_bytes": len(model),
        "model_sha256": hashlib.sha256(model).hexdigest(),
    }
    with replacing(path) as temporary:
        temporary.write_bytes(model)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(CONTRACT_NAME, json.dumps(values, indent=1, ensure_ascii=False))


def read_contract(path: str | os.PathLike[str]) -> BundleContract:
    """Read a bundle's contract and check the entire file against it.

    Raises:
        BundleError: if the file is missing, not a bundle, truncated, altered, or has another
            schema version.
    """
    path = Path(path)
    values = _read_json(path)
    version = values.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has contract version {version}, this runtime reads {SCHEMA_VERSION}. "
            "Export the model again with the matching semanticac-keras."
        )
    for key in _OBSOLETE_KEYS:
        values.pop(key, None)
    try:
        size, digest = int(values.pop("model_bytes")), values.pop("model_sha256")
        contract = BundleContract(
            **values
            | {
                "front_end": FrontEnd.from_json(values["front_end"]),
                "labels": tuple(values["labels"]),
                "prompts": tuple(values["prompts"]),
                "probe": Probe(
                    **{name: tuple(map(float, output)) for name, output in values["probe"].items()}
                ),
            }
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"{path} has a contract this runtime cannot read: {error}.") from error
    _check_model(path, size, digest)
    return contract


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(f"No model at {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            values = json.loads(archive.read(CONTRACT_NAME))
    except PermissionError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    # A damaged zip directory makes zipfile raise many exceptions besides BadZipFile.
    except (zipfile.BadZipFile, EOFError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise BundleError(
            f"{path} is not a complete semanticac bundle ({error}). "
            "Copy it again, or make one with semanticac_keras.export_tflite."
        ) from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} has a contract this runtime cannot read: not an object.")
    return values


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
