"""Checkpoint files: format detection by content, reading without PyTorch."""

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from semanticac_keras.checkpoints.pickles import Opaque, read_pickle
from semanticac_keras.checkpoints.stored import (
    Array,
    CheckpointError,
    CheckpointFile,
    StoredTensor,
    check_sizes,
    decode,
    item_bytes,
)

# The metadata of a few thousand tensors takes less than a megabyte.
_MAX_HEADER_BYTES = 64 << 20
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Exceptions of `zipfile` on damaged archives, found by flipping bytes.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@contextmanager
def open_checkpoint(path: Path) -> Iterator[CheckpointFile]:
    """Open a checkpoint; its tensors can be read inside the `with` block.

    Args:
        path: PyTorch zip archive, TorchScript archive or safetensors file.

    Raises:
        CheckpointError: if the format is unknown, the file is damaged, or it requests code
            execution; also while reading its tensors.
    """
    try:
        with path.open("rb") as file:
            file_bytes = path.stat().st_size
            start = file.read(64)
            if start.startswith(b"PK\x03\x04"):
                with zipfile.ZipFile(file) as archive:
                    if any(member.compress_size > file_bytes for member in archive.infolist()):
                        raise CheckpointError("damaged: a member is larger than the file")
                    yield _torch_file(archive)
            elif start[8:9] == b"{":
                yield _safetensors_file(file, file_bytes)
            else:
                raise CheckpointError(_describe_foreign(start))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def _describe_foreign(start: bytes) -> str:
    """Describe a file of an unsupported format by its first bytes."""
    if start.startswith(_LEGACY_TORCH):
        return "written by PyTorch before 1.6: load it in PyTorch and `torch.save` it again"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not a checkpoint: download the file again"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not a checkpoint: run `git lfs pull`"
    return "not a checkpoint: expected a PyTorch zip archive, a TorchScript archive or safetensors"


def _torch_file(archive: zipfile.ZipFile) -> CheckpointFile:
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise CheckpointError("a zip file, not a PyTorch archive: it must have one data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in names and _member(archive, f"{root}byteorder", 16) != b"little":
        raise CheckpointError("written on a big-endian machine, which is not supported")

    latest: dict[tuple[str, str, int], Array] = {}  # tensors of a shared storage are adjacent

    def load(key: str, dtype: str, numel: int) -> Array:
        if (key, dtype, numel) not in latest:
            size = numel * item_bytes(dtype)
            data = _member(archive, f"{root}data/{key}", size)
            if len(data) != size:
                raise CheckpointError(f"storage {key!r} has {len(data)} bytes, expected {size}")
            latest.clear()
            latest[key, dtype, numel] = decode(data, dtype)
        return latest[key, dtype, numel]

    value = read_pickle(_member(archive, pickles[0], _MAX_HEADER_BYTES), load)
    if f"{root}constants.pkl" in names:
        return CheckpointFile("TorchScript archive", dict(_attributes(value, "", set())))
    return CheckpointFile("PyTorch zip archive", _state_dict(value))


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Read an archive member; PyTorch stores members uncompressed."""
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise CheckpointError(f"the archive has no member {name!r}") from None
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise CheckpointError(f"{name!r} is compressed, which PyTorch never does")
    if member.file_size > max_bytes:
        raise CheckpointError(
            f"{name!r} has {member.file_size} bytes, expected at most {max_bytes}"
        )
    return archive.read(member)


def _state_dict(value: Any) -> dict[str, StoredTensor]:
    """Find the state dict in a value saved by `torch.save`: the value or an entry of it."""
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict):
        raise CheckpointError(f"must hold a state dict. Received: {_kind(value)}")
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, StoredTensor):
            raise CheckpointError(f"`{key}` must be a tensor. Received: {_kind(tensor)}")
    return value


def _attributes(value: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, StoredTensor]]:
    """Yield the tensors of a TorchScript module and its children, with dotted names."""
    if not isinstance(value, Opaque):
        raise CheckpointError(f"must hold a module. Received: {_kind(value)}")
    seen.add(id(value))
    for name, attribute in value.state.items():
        if isinstance(attribute, StoredTensor):
            yield f"{prefix}{name}", attribute
        elif isinstance(attribute, Opaque) and id(attribute) not in seen:
            yield from _attributes(attribute, f"{prefix}{name}.", seen)


def _kind(value: Any) -> str:
    return f"a `{value.dotted}`" if isinstance(value, Opaque) else f"a {type(value).__name__}"


def _safetensors_file(file: BinaryIO, file_bytes: int) -> CheckpointFile:
    file.seek(0)
    header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > min(_MAX_HEADER_BYTES, file_bytes - 8):
        raise CheckpointError(f"damaged: a header of {header_bytes} bytes is too long")
    try:
        header = json.loads(file.read(header_bytes))
        header.pop("__metadata__", None)
        tensors = {
            str(key): _safetensor(file, 8 + header_bytes, file_bytes, key, **entry)
            for key, entry in header.items()
        }
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"damaged: not a safetensors header ({error})") from error
    return CheckpointFile("safetensors", tensors)


def _safetensor(
    file: BinaryIO,
    data_start: int,
    file_bytes: int,
    key: str,
    dtype: str,
    shape: list[int],
    data_offsets: tuple[int, int],
) -> StoredTensor:
    begin, end = data_offsets
    if dtype not in _SAFETENSORS_DTYPES:
        raise CheckpointError(f"`{key}` has dtype {dtype}, which is not supported")
    kind = _SAFETENSORS_DTYPES[dtype]
    check_sizes(shape, (begin, end))
    if end - begin != math.prod(shape) * item_bytes(kind) or data_start + end > file_bytes:
        raise CheckpointError(f"damaged: the byte range of `{key}` does not fit")

    def read() -> Array:
        file.seek(data_start + begin)
        return decode(file.read(end - begin), kind).reshape(shape)

    return StoredTensor(tuple(shape), kind, read)
