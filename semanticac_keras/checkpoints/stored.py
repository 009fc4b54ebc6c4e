"""Common form of all checkpoint files: named tensors that are read on demand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_MAX_AXES = 32  # NumPy's limit before 2.0

# NumPy types of the stored bytes; bfloat16 is the upper half of a float32.
_ON_DISK = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "<i1",
    "uint8": "<u1",
    "bool": "?",
}


class CheckpointError(Exception):
    """A checkpoint is damaged, unsafe or not available, or does not match the encoder."""


@dataclass(frozen=True)
class StoredTensor:
    """Tensor in a checkpoint file.

    Args:
        shape: shape of the tensor.
        dtype: `"float32"`, `"bfloat16"`, `"int64"` and so on.
        read: function that reads the values, bfloat16 as float32; the file must still be open.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]

    @property
    def is_floating(self) -> bool:
        """Whether the values are floating point."""
        return "float" in self.dtype


@dataclass(frozen=True)
class CheckpointFile:
    """Open checkpoint.

    Args:
        container: file format, for messages.
        tensors: tensors by name, in the file's order.
    """

    container: str
    tensors: dict[str, StoredTensor]


def item_bytes(dtype: str) -> int:
    """Bytes of one element on disk."""
    return np.dtype(_ON_DISK[dtype]).itemsize


def decode(data: bytes, dtype: str) -> Array:
    """Decode little-endian bytes to a flat array; bfloat16 becomes float32."""
    flat = np.frombuffer(data, _ON_DISK[dtype])
    if dtype == "bfloat16":
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def check_sizes(shape: Sequence[Any], others: Sequence[Any]) -> None:
    """Raise `ValueError` unless all numbers are valid sizes."""
    if len(shape) > _MAX_AXES:
        raise ValueError(f"a tensor must have at most {_MAX_AXES} axes. Received: {len(shape)}")
    if not all(isinstance(n, int) and 0 <= n < 1 << 63 for n in (*shape, *others)):
        raise ValueError("a tensor has a negative or impossible size")
