import keras
import numpy as np
import pytest

from training.learning.optimizers import CoupledSGD
from training.learning.recipes import RECIPES, Recipe


def rates(recipe, steps_per_epoch, epochs):
    schedule = recipe.make_optimizer(steps_per_epoch)._learning_rate
    return [float(schedule(epoch * steps_per_epoch)) for epoch in epochs]


def test_overrides_change_the_augmentation_too():
    recipe = Recipe().override({"epochs": 3, "mixup": 0.2, "noise_snr_db": (5.0, 20.0)})
    assert (recipe.epochs, recipe.augmentation.mixup) == (3, 0.2)
    assert recipe.augmentation.noise_snr_db == (5.0, 20.0)
    assert Recipe().override({}) == Recipe()


def test_cosine_schedule_warms_up_and_ends_at_zero():
    values = rates(Recipe(epochs=10, warmup_epochs=2, learning_rate=1.0), 7, [0, 1, 2, 6, 10])
    np.testing.assert_allclose(values, [0, 0.5, 1, 0.5, 0], atol=1e-6)
    one = rates(Recipe(epochs=1, warmup_epochs=2, learning_rate=1.0), 7, [0, 1])
    np.testing.assert_allclose(one, [1, 0], atol=1e-6)


def test_exponential_schedule_falls_once_per_epoch():
    recipe = Recipe(schedule="exponential", learning_rate=1.0, decay=0.96)
    np.testing.assert_allclose(rates(recipe, 7, [0, 6 / 7, 1, 2]), [1, 1, 0.96, 0.96**2], rtol=1e-6)


def test_newer_fields_are_recorded_only_if_they_are_set():
    """So runs from before them can be resumed, and are compared as equal."""
    before = Recipe().to_json()
    assert "epochs" in before
    assert not {"train_text", "head_epochs", "head_learning_rate"} & before.keys()
    assert before["augmentation"]["mixup"] == 0.0
    after = Recipe(head_epochs=3, train_text=True).to_json()
    assert after == {**before, "head_epochs": 3, "train_text": True}


def test_weight_decay_applies_to_kernels_only():
    optimizer = Recipe(weight_decay=0.5, learning_rate=1.0).make_optimizer(1)
    kernel, bias = (keras.Variable(np.ones(2), name=name) for name in ("kernel", "bias"))
    optimizer.build([kernel, bias])
    assert optimizer._use_weight_decay(kernel)
    assert not optimizer._use_weight_decay(bias)


def test_averaging_is_off_by_default():
    assert not Recipe().make_optimizer(1).use_ema
    optimizer = Recipe(ema_momentum=0.9, optimizer="sgd").make_optimizer(1)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.9)


def test_the_paper_recipe_has_the_papers_settings():
    recipe = RECIPES["paper"]
    optimizer = recipe.make_optimizer(100)
    assert (recipe.batch_size, recipe.learning_rate, recipe.decay) == (16, 8e-5, 0.96)
    assert (optimizer.momentum, optimizer.nesterov, optimizer.coupled_decay) == (0.9, True, 5e-4)
    assert (recipe.targets, recipe.prompt) == ("diagonal", "an audio clip of {label}")


@pytest.mark.parametrize(
    "values",
    [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"head_epochs": -1}],
)
def test_refuses_values_that_cannot_train(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Recipe().override(values)


def sgd_in_pytorch(weight, gradients, **options):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor(weight))
    optimizer = torch.optim.SGD([parameter], **options)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("nesterov", [False, True])
def test_coupled_decay_equals_pytorchs(nesterov):
    rng = np.random.default_rng(0)
    weight, *gradients = rng.standard_normal((6, 4)).astype(np.float32)
    variable = keras.Variable(weight)
    optimizer = CoupledSGD(0.1, momentum=0.9, nesterov=nesterov, coupled_decay=0.3)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.3}
    expected = sgd_in_pytorch(weight, gradients, **options)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, atol=1e-6)


def test_coupled_decay_is_added_to_the_gradient():
    variable = keras.Variable(np.array([2.0], np.float32))
    optimizer = CoupledSGD(0.5, coupled_decay=0.25)
    optimizer.apply([keras.ops.zeros(1)], [variable])
    assert keras.ops.convert_to_numpy(variable) == 2.0 - 0.5 * 0.25 * 2.0
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.coupled_decay == 0.25
