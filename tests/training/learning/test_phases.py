"""Which weights each phase of a training changes; whole trainings are in `test_fit_clap`."""

import numpy as np
import pytest

from semanticac_keras import SemanticAC
from training.datasets import load_dataset
from training.datasets.split import Split
from training.learning.phases import Phase, make_trainable, phases_of
from training.learning.recipes import Recipe
from training.runs import outcome
from training.runs.run import Run

LABELS = ("hiss", "low hum")


@pytest.fixture
def recipe(micro):
    return Recipe(micro, epochs=5, head_epochs=2)


def trained(model):
    """The parts of a model that are trained."""
    tower = model.audio_tower
    parts = {"encoder": tower.encoder, "head": tower.head, "text": model.text_encoder}
    return {name for name, part in parts.items() if part.trainable_variables}


def test_a_phase_without_epochs_is_left_out(recipe):
    heads, everything = phases_of(recipe)
    assert (heads, everything) == (Phase(0, 2, True), Phase(2, 5, False))
    assert phases_of(recipe.override({"head_epochs": 0})) == [Phase(0, 5, False)]
    assert phases_of(recipe.override({"head_epochs": 5})) == [Phase(0, 5, True)]


@pytest.mark.parametrize(
    ("texts", "heads"), [("labels", {"head"}), ("none", {"head", "text"})], ids=["texts", "none"]
)
def test_each_phase_has_an_optimizer_for_its_weights(texts, heads, recipe):
    model = SemanticAC.from_preset(recipe.preset, LABELS, texts=texts)
    everything = {"encoder", "head", "text"}
    for phase, expected in zip(phases_of(recipe), (heads, everything), strict=True):
        phase.begin(model, recipe, steps_per_epoch=3)
        assert trained(model) == expected
        # The step number, and two averages of each weight.
        assert len(model.optimizer.variables) == 1 + 2 * len(model.trainable_variables)


def test_each_phase_has_a_schedule(recipe):
    recipe = recipe.override({"warmup_epochs": 0, "head_learning_rate": 0.5, "learning_rate": 0.25})
    model = SemanticAC.from_preset(recipe.preset, LABELS)
    for phase, highest in zip(phases_of(recipe), (0.5, 0.25), strict=True):
        phase.begin(model, recipe, steps_per_epoch=3)
        rate = model.optimizer._learning_rate
        np.testing.assert_allclose(
            [float(rate(0)), float(rate(3 * (phase.end - phase.first_epoch)))], [highest, 0]
        )


def test_a_model_ends_with_all_weights_trainable(recipe):
    model = SemanticAC.from_preset(recipe.preset, LABELS)
    everything = trained(model)
    phases_of(recipe)[0].begin(model, recipe, 3)
    make_trainable(model, recipe, 3)
    assert trained(model) == everything
    optimizer = model.optimizer
    make_trainable(model, recipe, 3)
    assert model.optimizer is optimizer


@pytest.mark.usefixtures("eager")
def test_an_epoch_of_the_heads_can_be_selected(recipe, folder, tmp_path):
    """Its weights were saved with another optimizer than the last epoch's."""
    model, run = SemanticAC.from_preset(recipe.preset, LABELS), Run(tmp_path / "run")
    run.directory.mkdir()
    run.write_history([{"epoch": 1.0, "val_accuracy": 1.0}, {"epoch": 2.0, "val_accuracy": 0.5}])
    heads, everything = phases_of(recipe)
    heads.begin(model, recipe, 3)
    model.save_weights(run.selected(1))
    everything.begin(model, recipe, 3)
    before = model.audio_tower.encoder.get_weights()
    model.audio_tower.encoder.set_weights([0 * values for values in before])
    dataset = load_dataset("folder", folder, progress=False)
    split = Split.of(dataset, 1, 2)
    clips = dataset.load(split.test, model.front_end.sample_rate_hz)
    _, figures = outcome.test(model, dataset, split, clips, run, None)
    assert figures["validation"]["epoch"] == 1
    for values, expected in zip(model.audio_tower.encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(values, expected)
