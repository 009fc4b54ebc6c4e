"""The pretraining loop, from the first step or from a checkpoint."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np

from edge.types import FloatArray
from semanticac_keras import HTSATEncoder, presets
from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.heads import HEADS
from training.corpus.reader import Corpus
from training.learning.callbacks import ProgressBar, SeedByEpoch, save_weights
from training.learning.cpu import tune_for_cpu
from training.learning.distribution import device_kind
from training.learning.interrupts import stopping_between_steps
from training.learning.recipes import Recipe
from training.pretraining.batches import CropBatches, Mixing
from training.pretraining.judging import Agreement, agreement, held_out_crops
from training.pretraining.spectra import Surroundings
from training.pretraining.student import Student
from training.pretraining.teacher import Targets
from training.runs.files import writing
from training.runs.run import Row, Run, RunError

_HELD_OUT_CROPS = 1_000


@dataclass(frozen=True)
class Plan:
    """Settings of a pretraining.

    Args:
        preset: preset of the student.
        epochs: number of checkpoints.
        steps_per_epoch: steps between two checkpoints.
        batch_size: crops per step.
        optimizer: see `Recipe`.
        learning_rate: highest learning rate.
        warmup_epochs: epochs of linear rise, before the cosine to zero.
        weight_decay: decoupled, for kernels alone.
        ema_momentum: momentum of the averaged weights.
        drop_path: stochastic depth of the encoder.
        seed: seed of weights and batches.
        mixing: how crops are drawn and mixed.
        surroundings: what lies between a sound and the student.
    """

    preset: str = "small"
    epochs: int = 100
    steps_per_epoch: int = 250
    batch_size: int = 32
    optimizer: str = "muon"
    learning_rate: float = 3e-3
    warmup_epochs: int = 2
    weight_decay: float = 0.02
    ema_momentum: float = 0.999
    drop_path: float = 0.0
    seed: int = 0
    mixing: Mixing = field(default_factory=Mixing)
    surroundings: Surroundings = field(default_factory=Surroundings)

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """Create the optimiser with its schedule."""
        recipe = Recipe(
            preset=self.preset,
            epochs=self.epochs,
            optimizer=self.optimizer,  # type: ignore[arg-type]
            learning_rate=self.learning_rate,
            warmup_epochs=self.warmup_epochs,
            weight_decay=self.weight_decay,
            ema_momentum=self.ema_momentum,
        )
        return recipe.make_optimizer(self.steps_per_epoch)


def create_tower(preset: str, embedding_dim: int, drop_path: float = 0.0) -> AudioTower:
    """Create a preset's audio tower for a shared space of another size."""
    settings = presets.get(preset)
    encoder = HTSATEncoder(
        **{**settings.audio_encoder, "drop_path": drop_path}, name="audio_encoder"
    )
    head = HEADS["cscm"](**{**settings.cscm, "output_dim": embedding_dim}, name="cscm")
    return AudioTower(settings.front_end, encoder, head, name="audio_tower")


def pretrain(
    plan: Plan, corpus: Corpus, targets: Targets, text_vectors: FloatArray, run: Run
) -> Student:
    """Train a student to the last epoch, from the run's checkpoint if there is one.

    Raises:
        RunError: if the checkpoint cannot be read, or a file cannot be written.
    """
    if device_kind() == "cpu":
        tune_for_cpu()
    keras.utils.set_random_seed(plan.seed)
    tower = create_tower(plan.preset, text_vectors.shape[1], plan.drop_path)
    student = Student(tower, text_vectors, targets.embedding_dim, targets.grid, name="student")
    front_end = tower.front_end
    student.compile(plan.make_optimizer(), jit_compile=False)
    student.optimizer.build(student.trainable_variables)
    batches = CropBatches(
        targets,
        corpus.indices("train"),
        front_end,
        plan.batch_size,
        plan.seed,
        plan.mixing,
        plan.surroundings,
    )
    crops = held_out_crops(targets, corpus.indices("held-out").tolist(), front_end, _HELD_OUT_CROPS)
    first = _restore(student, run, plan.steps_per_epoch)
    rows = run.read_history()[:first]
    bar = ProgressBar(plan.epochs, first)

    def judge() -> Agreement:
        return agreement(student, targets, crops, front_end)

    try:
        with stopping_between_steps() as interrupt:
            student.fit(
                _examples(batches, first * plan.steps_per_epoch),
                steps_per_epoch=plan.steps_per_epoch,
                initial_epoch=first,
                epochs=plan.epochs,
                callbacks=[SeedByEpoch(), _Judge(run, rows, judge), bar, interrupt],
                shuffle=False,
                verbose=0,
            )
    finally:
        bar.close()
    _finalize(student)
    return student


def _examples(batches: CropBatches, first: int) -> Iterator[tuple[Any, Any]]:
    for batch in batches.generate(first):
        yield batch.log_mels, batch[1:]


class _Judge(keras.callbacks.Callback):
    """Judge the averaged weights after each epoch, then write the history and a checkpoint."""

    def __init__(self, run: Run, rows: list[Row], judge: Any) -> None:
        super().__init__()
        self.run = run
        self.rows = rows
        self.judge = judge

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Judge and save."""
        logs = {} if logs is None else logs
        if not np.isfinite(logs.get("loss", 0.0)):
            raise RunError(f"epoch {epoch + 1}: the loss became {logs['loss']}.")
        current = [keras.ops.copy(variable) for variable in self.model.trainable_variables]
        _finalize(self.model)
        logs.update(asdict(self.judge()))
        with writing(self.run.directory / "student.weights.h5") as temporary:
            self.model.save_weights(temporary, overwrite=True)
        for variable, value in zip(self.model.trainable_variables, current, strict=True):
            variable.assign(value)
        values = {name: float(value) for name, value in logs.items()}
        self.rows.append({"epoch": float(epoch + 1), **values})
        self.run.write_history(self.rows)
        save_weights(self.model, self.run.checkpoint)


def _finalize(student: Student) -> None:
    """Assign the averaged weights."""
    student.optimizer.finalize_variable_values(student.trainable_variables)
    for variable in student.trainable_variables:
        variable.assign(keras.ops.copy(variable))


def _restore(student: Student, run: Run, steps_per_epoch: int) -> int:
    """Load the checkpoint, if there is one; return the epoch at which to continue, from 0."""
    if not run.checkpoint.exists():
        return 0
    try:
        student.load_weights(run.checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run.checkpoint} cannot be read: {str(error)[:200]}") from error
    return int(student.optimizer.iterations) // steps_per_epoch
