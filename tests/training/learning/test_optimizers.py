import keras
import numpy as np
import pytest

from training.learning import optimizers
from training.learning.optimizers import Muon
from training.learning.recipes import Recipe


def updated(optimizer, value, gradient, path="layer/kernel"):
    layer, name = path.split("/")
    with keras.name_scope(layer):
        # Keras on PyTorch needs at least one variable with weight decay.
        variables = [keras.Variable(value, name=name), keras.Variable(value, name="kernel")]
    gradients = [keras.ops.convert_to_tensor(gradient)] * 2
    optimizer.apply(gradients, variables)
    return keras.ops.convert_to_numpy(variables[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (3, 3, 4, 16)])
def test_muon_moves_a_kernel_equally_far_in_every_direction(shape, dtype, monkeypatch):
    monkeypatch.setattr(optimizers, "_fast_dtype", lambda: dtype)
    gradient = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    gradient[..., 0] *= 100.0
    value = updated(Muon(0.1, weight_decay=0.0), np.zeros(shape, np.float32), gradient)
    step = -value.reshape(-1, shape[-1])
    step /= 0.1 * 0.2 * np.sqrt(max(step.shape))
    lengths = np.linalg.svd(step, compute_uv=False)
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3
    assert np.sum(step * gradient.reshape(step.shape)) > 0.0  # downhill


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("layer/bias", (4,)),
        ("stem/kernel", (3, 3, 1, 16)),
        ("token_embedding/embeddings", (8, 4)),
        ("text_encoder/kernel", (8, 4)),
    ],
)
def test_muon_updates_other_variables_as_adamw_does(path, shape):
    value, gradient = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    ours = Recipe(optimizer="muon").make_optimizer(10)
    theirs = Recipe(optimizer="adamw").make_optimizer(10)
    np.testing.assert_allclose(
        updated(ours, value, gradient, path), updated(theirs, value, gradient, path), rtol=1e-6
    )


def test_configuration_is_complete():
    optimizer = Muon(0.1, 0.9, ("head",), weight_decay=0.3)
    copy = Muon.from_config(optimizer.get_config())
    assert (copy.muon_momentum, copy.adam_paths, copy.weight_decay) == (0.9, ("head",), 0.3)


@pytest.mark.parametrize(
    ("device", "instructions", "dtype"),
    [("cpu", False, "float32"), ("cpu", True, "bfloat16"), ("gpu", False, "bfloat16")],
)
def test_the_precision_follows_the_device(device, instructions, dtype, monkeypatch):
    def record(matrix, dtype):
        used.append(dtype)
        return orthogonal(matrix, dtype)

    used, orthogonal = [], optimizers._orthogonal
    monkeypatch.setattr(optimizers, "_orthogonal", record)
    monkeypatch.setattr(optimizers, "device_kind", lambda: device)
    monkeypatch.setattr(optimizers, "has_bfloat16", lambda: instructions)
    value, gradient = np.random.default_rng(0).standard_normal((2, 4, 4)).astype(np.float32)
    updated(Muon(0.1), value, gradient)
    assert set(used) == {dtype}
