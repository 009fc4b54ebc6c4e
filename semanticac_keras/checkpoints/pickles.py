"""Safe reader of PyTorch pickles, which never executes code.

Python's own unpickler calls, imports and sets attributes as the file requests. This reader loops
over the opcodes that PyTorch writes. It builds numbers, strings, containers and `StoredTensor`; a
class or function in the file stays a name. Names that are not on the lists below are refused.
Listed names of anything but tensors become an `Opaque`, which holds data only.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.lib.stride_tricks import as_strided

from semanticac_keras.checkpoints.stored import Array, CheckpointError, StoredTensor, check_sizes

_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_TENSORS = frozenset({"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"})
_WRAPPERS = frozenset(
    {
        "torch._utils._rebuild_parameter",
        "torch.jit._pickle.restore_type_tag",
        *(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
    }
)
_ORDERED_DICT = "collections.OrderedDict"
# Harmless objects that training scripts save with the weights.
_INERT = frozenset(
    {
        "_codecs.encode",
        "argparse.Namespace",
        "collections.defaultdict",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "torch.Size",
        "torch.device",
        *(
            f"torch.{dtype}"
            for dtype in ("float64", "float32", "float16", "bfloat16", "int64", "bool")
        ),
        "numpy.dtype",
        "numpy.ndarray",
        *(
            f"numpy.{core}.multiarray.{name}"
            for core in ("core", "_core")
            for name in ("scalar", "_reconstruct")
        ),
        *(
            f"{builtins}.{name}"
            for builtins in ("builtins", "__builtin__")
            for name in ("set", "dict", "list", "int", "float", "bool")
        ),
    }
)
# `__torch__` is TorchScript's namespace of modules.
_INERT_PACKAGES = (
    "__torch__.",
    "lightning.",
    "lightning_fabric.",
    "omegaconf.",
    "pytorch_lightning.",
    "torch.optim.",
    "torchmetrics.",
)
_PUSHED = frozenset(
    (
        "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
        "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    )
)  # fmt: skip
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """Name of a class or function in the file."""

    dotted: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    numel: int


@dataclass
class Opaque:
    """Object of a class that is never imported.

    Args:
        dotted: dotted name of the class.
        state: attributes of the object.
    """

    dotted: str
    state: dict[Any, Any] = field(default_factory=dict)


def read_pickle(data: bytes, load: Callable[[str, str, int], Array]) -> Any:
    """Read a pickle written by PyTorch.

    Args:
        data: the pickle.
        load: function `load(key, dtype, numel)` that reads the flat elements of a storage.

    Returns:
        Numbers, strings, containers (sets as lists), `StoredTensor` and `Opaque`.

    Raises:
        CheckpointError: if the pickle is damaged, or refers to a name that is not listed.
    """
    reader = _Reader(load)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return reader.stack.pop()
            reader.step(opcode.name, argument)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"the pickle is damaged: {error}") from error
    raise CheckpointError("the pickle is damaged: it has no STOP opcode")


class _Reader:
    """Stack machine of `pickle` without calls."""

    def __init__(self, load: Callable[[str, str, int], Array]) -> None:
        self.load = load
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Execute one opcode on the stack."""
        push, pop = self.stack.append, self.stack.pop
        if opcode in _PUSHED:
            push(argument)
        elif opcode in _TUPLES:
            push(tuple([pop() for _ in range(_TUPLES[opcode])][::-1]))
        else:
            match opcode:
                case "PROTO" | "FRAME":
                    pass
                case "NONE":
                    push(None)
                case "NEWTRUE" | "NEWFALSE":
                    push(opcode == "NEWTRUE")
                case "MARK":
                    push(_MARK)
                case "TUPLE":
                    push(tuple(self._to_mark()))
                case "EMPTY_LIST" | "EMPTY_SET":
                    push([])
                case "LIST" | "FROZENSET":
                    push(self._to_mark())
                case "APPEND":
                    self._extend([pop()])
                case "APPENDS" | "ADDITEMS":
                    self._extend(self._to_mark())
                case "EMPTY_DICT":
                    push({})
                case "SETITEM":
                    value, key = pop(), pop()
                    self._set_items([key, value])
                case "SETITEMS":
                    self._set_items(self._to_mark())
                case "BINPUT" | "LONG_BINPUT":
                    self.memo[argument] = self.stack[-1]
                case "MEMOIZE":
                    self.memo[len(self.memo)] = self.stack[-1]
                case "BINGET" | "LONG_BINGET":
                    push(self.memo[argument])
                case "GLOBAL":
                    push(_allowed(argument.replace(" ", ".", 1)))
                case "STACK_GLOBAL":
                    name, module = pop(), pop()
                    if not isinstance(name, str) or not isinstance(module, str):
                        raise TypeError("a global name is not a string")
                    push(_allowed(f"{module}.{name}"))
                case "BINPERSID":
                    push(_storage(pop()))
                case "REDUCE" | "NEWOBJ":
                    arguments, made = pop(), pop()
                    push(self._make(made, arguments))
                case "BUILD":
                    self._set_state(pop())
                case _:
                    raise CheckpointError(f"the pickle has {opcode}, which PyTorch never writes")

    def _to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise TypeError("an item is appended to an object that is not a list")

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            return
        if not isinstance(target, dict):
            raise TypeError("an item is set on an object that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing nested tuples can take exponential time.
            if not isinstance(key, str | int | float | _Name | None):
                raise TypeError(f"a dictionary has a key of type {type(key).__name__}")
            target[key] = value

    def _set_state(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.state = state if isinstance(state, dict) else {}
        elif not isinstance(target, dict):  # attributes of an OrderedDict are ignored
            raise TypeError("attributes are set on an object that has none")

    def _make(self, made: Any, arguments: Any) -> Any:
        """Return the value that a call of a listed name represents."""
        if not isinstance(made, _Name) or not isinstance(arguments, tuple):
            raise TypeError("an object that is not a global name is called")
        if made.dotted in _TENSORS:
            return self._tensor(*arguments[:4])
        if made.dotted in _WRAPPERS:
            return arguments[0]
        if made.dotted == _ORDERED_DICT and not arguments:
            return {}
        return Opaque(made.dotted)

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise TypeError("a tensor has no storage")
        check_sizes(shape, (offset, *strides, storage.numel))
        # An axis of one element, or of an empty tensor, may have any stride.
        steps = [
            stride if n > 1 and 0 not in shape else 0
            for n, stride in zip(shape, strides, strict=True)
        ]
        reach = sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        if 0 not in shape and offset + reach >= storage.numel:
            raise ValueError("a tensor extends beyond its storage")

        def read() -> Array:
            flat = self.load(storage.key, storage.dtype, storage.numel)[offset:]
            return as_strided(flat, shape, [n * flat.itemsize for n in steps], writeable=False)

        return StoredTensor(tuple(shape), storage.dtype, read)


def _allowed(dotted: str) -> _Name:
    known = dotted in _STORAGES or dotted in _TENSORS or dotted in _WRAPPERS or dotted in _INERT
    if known or dotted == _ORDERED_DICT or dotted.startswith(_INERT_PACKAGES):
        return _Name(dotted)
    raise CheckpointError(
        f"the pickle requests `{dotted}`, which is refused: only tensors and plain data are read"
    )


def _storage(persistent_id: Any) -> _Storage:
    kind, name, key, _, numel = persistent_id
    if kind != "storage" or not isinstance(name, _Name) or name.dotted not in _STORAGES:
        raise ValueError("a storage has no type")
    if not isinstance(key, str):
        raise ValueError("a storage has no name")
    return _Storage(_STORAGES[name.dotted], key, numel)
