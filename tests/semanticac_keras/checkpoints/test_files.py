"""Checkpoint files are read exactly, and never executed."""

import argparse
import collections
import functools
import os
import pickle
import sys
import zipfile
from types import ModuleType

import numpy as np
import pytest

from semanticac_keras.checkpoints import CheckpointError
from semanticac_keras.checkpoints.files import open_checkpoint

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def read_all(path):
    with open_checkpoint(path) as file:
        return {key: tensor.read() for key, tensor in file.tensors.items()}


def error_of(path):
    with pytest.raises(CheckpointError) as caught:
        read_all(path)
    return str(caught.value)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def samples(torch):
    """Tensors of every dtype, a scalar, an empty one, views and a shared storage."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn((6, 5, 4), generator=generator)
    tensors = {dtype: (10 * grid[0]).to(getattr(torch, dtype)) for dtype in DTYPES}
    return tensors | {
        "bool": grid[0] > 0,
        "scalar": torch.tensor(7),
        "empty": torch.zeros((0, 3)),
        "transposed": grid.permute(2, 0, 1),
        "offset": grid[2:5, 1:, ::2],
        "row": grid[3, 2],
        "expanded": grid[0, :1].expand(3, 4),
    }


def assert_equal(read, samples):
    assert read.keys() == samples.keys()
    for key, tensor in samples.items():
        expected = (tensor.float() if key == "bfloat16" else tensor).numpy()
        assert read[key].dtype == expected.dtype, key
        np.testing.assert_array_equal(read[key], expected, err_msg=key)


@pytest.mark.parametrize("nested", [False, True])
def test_torch_file_is_read_exactly(nested, torch, samples, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"epoch": 3, "state_dict": samples} if nested else samples, path)
    assert_equal(read_all(path), samples)


def test_state_dict_and_parameters_of_a_module_are_read(torch, tmp_path):
    layer = torch.nn.BatchNorm1d(3)
    torch.save({"state_dict": layer.state_dict(), "best": layer.weight}, tmp_path / "weights.pt")
    expected = {key: value.numpy() for key, value in layer.state_dict().items()}
    read = read_all(tmp_path / "weights.pt")
    assert all(np.array_equal(read[key], expected[key]) for key in expected)
    torch.save(dict(layer.named_parameters()), tmp_path / "parameters.pt")
    assert read_all(tmp_path / "parameters.pt")["weight"].tolist() == [1, 1, 1]


def test_safetensors_are_read_exactly(torch, samples, tmp_path):
    safetensors_torch = pytest.importorskip("safetensors.torch")
    contiguous = {key: tensor.clone().contiguous() for key, tensor in samples.items()}
    safetensors_torch.save_file(contiguous, tmp_path / "x.safetensors", metadata={"format": "pt"})
    read = read_all(tmp_path / "x.safetensors")
    assert_equal({key: read[key] for key in samples}, contiguous)


def test_other_objects_in_a_lightning_checkpoint_are_ignored(torch, tmp_path, monkeypatch):
    module = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    exec(
        "class ModelCheckpoint:\n    def __setstate__(self, state): raise SystemExit", vars(module)
    )
    package = module.__name__.split(".")
    for depth in range(1, len(package)):
        monkeypatch.setitem(sys.modules, ".".join(package[:depth]), ModuleType("package"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    callback = module.ModelCheckpoint()
    callback.best = torch.ones(2)
    parameter = torch.nn.Parameter(torch.ones(2))
    checkpoint = {
        "state_dict": collections.OrderedDict(weight=torch.arange(3.0)),
        "optimizer_states": [torch.optim.AdamW([parameter]).state_dict()],
        "callbacks": {module.ModelCheckpoint: {"best_model_score": np.float64(0.47)}},
        "hyper_parameters": argparse.Namespace(callback=callback, sizes=torch.Size([1, 2])),
        "seen": {1, 2, 3},
        "table": np.arange(3),
        "counts": collections.defaultdict(list, a=[1]),
    }
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert read_all(tmp_path / "last.ckpt")["weight"].tolist() == [0, 1, 2]


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def hostile_objects(sentinel):
    """Hostile objects by the name that is refused; Python's own unpickler runs the first."""
    command = f"touch {sentinel}"
    return {
        f"{os.system.__module__}.system": Call(os.system, command),
        "__builtin__.eval": Call(eval, f"open({str(sentinel)!r}, 'w')"),
        "__builtin__.getattr": Call(getattr, Call(__import__, "os"), "system"),
        "functools.partial": Call(functools.partial, os.system, command),
        "numpy.load": Call(np.load, str(sentinel)),
    }


def test_hostile_object_runs_in_the_standard_unpickler(tmp_path):
    hostile, *_ = hostile_objects(tmp_path / "sentinel").values()
    pickle.loads(pickle.dumps(hostile, 2))
    assert (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("name", hostile_objects("sentinel"))
@pytest.mark.parametrize("place", ["inside", "beside"])
def test_hostile_pickle_is_refused_by_name_and_not_executed(name, place, tmp_path):
    sentinel = tmp_path / "sentinel"
    hostile = hostile_objects(sentinel)[name]
    value = (
        {"state_dict": {"weight": hostile}}
        if place == "inside"
        else {"state_dict": {}, "x": hostile}
    )
    path = write_zip(tmp_path, pickle.dumps(value, 2))
    assert f"requests `{name}`, which is refused" in error_of(path)
    assert not sentinel.exists()


def test_protocol_4_names_are_refused_too(tmp_path):
    path = write_zip(tmp_path, pickle.dumps({"weight": Call(os.system, "true")}, 4))
    assert f"`{os.system.__module__}.system`" in error_of(path)


def test_object_in_place_of_a_tensor_is_refused_by_name(tmp_path):
    path = write_zip(tmp_path, pickle.dumps({"weight": np.float64(1)}, 2))
    error = error_of(path).replace("numpy._core", "numpy.core")  # as numpy 1 has it
    assert "`weight` must be a tensor. Received: a `numpy.core.multiarray.scalar`" in error


def test_attributes_cannot_be_set_on_names(tmp_path):
    path = write_zip(tmp_path, b"\x80\x02ctorch.optim\nSGD\n}b.")
    assert "attributes are set on an object that has none" in error_of(path)


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQ"
)


def tensor_pickle(numel=b"K\x04", offset=b"K\x00", shape=b"K\x04\x85", strides=b"K\x01\x85"):
    """A state dict with one tensor, and with a storage of 4 float32 in the file."""
    arguments = b"(" + STORAGE % numel + offset + shape + strides + b"\x89}t"
    return b"\x80\x02}X\x06\x00\x00\x00weight" + REBUILD + arguments + b"Rs."


def test_handwritten_tensor_is_read(tmp_path):
    assert read_all(write_zip(tmp_path, tensor_pickle()))["weight"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"shape": b"K\x05\x85"}, "extends beyond its storage"),
        ({"offset": b"K\x01"}, "extends beyond its storage"),
        ({"strides": b"K\x02\x85"}, "extends beyond its storage"),
        ({"offset": b"J\xff\xff\xff\xff"}, "negative"),
        ({"strides": b"J\xff\xff\xff\xff\x85"}, "negative"),
        ({"shape": b"K\x02K\x02\x86"}, "no storage"),
        ({"shape": b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85"}, "impossible"),
        ({"numel": b"\x8a\x07" + b"\xff" * 6 + b"\x00"}, "has 16 bytes, expected"),
        ({"numel": b"K\x03", "shape": b"K\x03\x85"}, "has 16 bytes, expected"),
    ],
)
def test_inconsistent_tensor_is_refused(claims, message, tmp_path):
    assert message in error_of(write_zip(tmp_path, tensor_pickle(**claims)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\x00\x00\x00abc.", "damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc.", "damaged"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00abc.", "damaged"),
        (b"\x80\x02}r\xff\xff\xff\xff.", None),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02(i__main__\nX\n.", "INST"),
        (b"\x80\x04]]\x93.", "not a string"),
        (b"\x80\x02]]a.", "must hold a state dict. Received: a list"),
        (b"\x80\x02}]Ns.", "key of type list"),
        (
            b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
            "must hold a state dict. Received: a tuple",
        ),
    ],
)
def test_damaged_pickle_is_refused(data, message, tmp_path):
    path = write_zip(tmp_path, data)
    if message is None:  # the largest memo index costs no memory
        assert read_all(path) == {}
    else:
        assert message in error_of(path)


def test_member_names_cannot_leave_the_archive(tmp_path):
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    hostile = tensor_pickle().replace(b"X\x01\x00\x00\x000", b"X\x0c\x00\x00\x00../../secret")
    assert "the archive has no member" in error_of(write_zip(tmp_path, hostile))


def test_compressed_member_is_refused(tmp_path):
    bomb = bytes(8 << 20)
    path = write_zip(tmp_path, bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 16
    assert "is compressed" in error_of(path)


def test_member_size_beyond_the_file_is_refused(tmp_path):
    path = write_zip(tmp_path, tensor_pickle())
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the central directory's entry of the storage
    data[entry + 20 : entry + 28] = (0x7FFFFFFF).to_bytes(4, "little") * 2
    path.write_bytes(data)
    assert "a member is larger than the file" in error_of(path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_truncated_file_is_refused(kind, kept, torch, samples, tmp_path):
    path = tmp_path / "weights"
    if kind == "torch":
        torch.save(samples, path)
    else:
        save_file = pytest.importorskip("safetensors.torch").save_file
        save_file({key: tensor.clone().contiguous() for key, tensor in samples.items()}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert error_of(path).startswith(str(path))


def test_flipped_byte_in_a_storage_is_detected(tmp_path):
    path = write_zip(tmp_path, tensor_pickle())
    data = path.read_bytes()
    values = np.arange(4, dtype=np.float32).tobytes()
    path.write_bytes(data.replace(values, values[:-1] + b"\x41"))
    assert "is damaged" in error_of(path)


def test_flipped_bytes_are_refused_or_read(tmp_path):
    path = write_zip(tmp_path, tensor_pickle())
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        damaged = bytearray(data)
        for position in rng.integers(len(data), size=3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_all(path)
        except CheckpointError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}', "does not fit"),
        (b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}', "does not fit"),
        (b'{"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}', "negative"),
        (b'{"w": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}', "F8_E4M3"),
        (b'{"w": {"dtype": "F32", "shape": [2]}}', "not a safetensors header"),
        (b'{"w": 1}', "not a safetensors header"),
        (b'{"w": ' + b"[" * 60_000, "not a safetensors header"),
    ],
)
def test_damaged_safetensors_are_refused(header, message, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert message in error_of(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a checkpoint"),
        (b"\xff" * 7 + b"\x7f{", "is too long"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (pickle.dumps({"weight": 1}), "not a checkpoint"),
    ],
)
def test_foreign_file_is_refused(data, message, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(data)
    assert message in error_of(path)


def test_legacy_torch_file_is_refused_by_name(torch, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert "before 1.6" in error_of(path)


def write_zip(directory, data, compression=zipfile.ZIP_STORED):
    path = directory / "hostile.pt"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    return path
