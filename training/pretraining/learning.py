"""The pretraining loop, from the first step or from a checkpoint."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.pretrained import SUFFIX, Pretrained, TextSpace, save_pretrained
from semanticac_keras.semantic_ac import sync_weights
from training.corpus.reader import Corpus
from training.datasets import AudioDataset
from training.datasets.cache import load_clips
from training.learning.callbacks import ProgressBar, SeedByEpoch, assign_averages, save_weights
from training.learning.cpu import tune_for_cpu
from training.learning.distribution import device_kind
from training.learning.interrupts import stopping_between_steps
from training.learning.recipes import Recipe
from training.pretraining.batches import CropBatches, Mixing
from training.pretraining.judging import PROBE, compare, held_out_crops, probe_accuracy
from training.pretraining.report import write_report
from training.pretraining.spectra import Surroundings
from training.pretraining.student import Student
from training.pretraining.teacher import Targets
from training.runs.run import Row, Run, RunError

_HELD_OUT_CROPS = 1_000
# Batches that renew the statistics of batch normalisation for the averaged weights. Their numbers
# are beyond those of any training.
_STATISTICS_BATCHES = 30
_STATISTICS_FIRST = 1_000_000_000


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
        averaged: share of the run's steps over which the averaged weights reach back.
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
    averaged: float = 0.05
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
            ema_momentum=max(0.0, 1.0 - 1.0 / (self.averaged * self.epochs * self.steps_per_epoch)),
        )
        return recipe.make_optimizer(self.steps_per_epoch)


def weights_of(run: Run) -> Path:
    """Return the path of a run's pretrained tower, which is complete after its first epoch."""
    return run.directory / f"pretrained{SUFFIX}"


def pretrain(
    plan: Plan,
    corpus: Corpus,
    teachers: Sequence[Targets],
    space: TextSpace,
    run: Run,
    about: dict[str, Any],
    labelled: AudioDataset | None = None,
) -> None:
    """Train a student to the last epoch, from the run's checkpoint if there is one.

    Each epoch ends with a checkpoint and the tower's averaged weights; with labelled clips, these
    are kept only if a linear probe on them was never better.

    Args:
        plan: settings.
        corpus: recordings.
        teachers: what each teacher heard in them, by increasing hop. The first is compared with.
        space: texts of the teachers' classes.
        run: directory of the results.
        about: what to write into the pretrained tower's file.
        labelled: clips that the student never hears, to judge its features by.

    Raises:
        RunError: if the checkpoint cannot be read, or a file cannot be written.
    """
    if device_kind() == "cpu":
        tune_for_cpu()
    keras.utils.set_random_seed(plan.seed)
    tower = AudioTower.from_preset(
        plan.preset, output_dim=space.vectors.shape[1], drop_path=plan.drop_path
    )
    heads = [(targets.embedding_dim, targets.grid) for targets in teachers]
    student = Student(tower, space.vectors, heads, name="student")
    front_end = tower.front_end
    student.compile(plan.make_optimizer(), jit_compile=False)
    student.optimizer.build(student.trainable_variables)
    batches = CropBatches(
        teachers,
        corpus.indices("train"),
        front_end,
        plan.batch_size,
        plan.seed,
        plan.mixing,
        plan.surroundings,
    )
    targets = teachers[0]
    crops = held_out_crops(targets, corpus.indices("held-out").tolist(), front_end, _HELD_OUT_CROPS)
    first = _restore(student, run, plan.steps_per_epoch)
    rows = run.read_history()[:first]
    bar = ProgressBar(plan.epochs, first)

    # Once, as each epoch is judged by them.
    clips = load_clips(labelled, front_end.sample_rate_hz) if labelled is not None else []

    def judge() -> dict[str, float]:
        figures = asdict(compare(student, targets, crops, front_end).agreement())
        if labelled is not None:
            figures[PROBE] = probe_accuracy(tower, labelled, clips)
        return figures

    def save(figures: dict[str, float]) -> None:
        pretrained = Pretrained(
            plan.preset,
            tower,
            space,
            float(keras.ops.convert_to_numpy(student.log_scale)[0]),
            float(keras.ops.convert_to_numpy(student.score_bias)[0]),
            {**about, "figures": figures},
        )
        save_pretrained(pretrained, weights_of(run))

    try:
        with stopping_between_steps() as interrupt:
            student.fit(
                _examples(batches, first * plan.steps_per_epoch),
                steps_per_epoch=plan.steps_per_epoch,
                initial_epoch=first,
                epochs=plan.epochs,
                callbacks=[SeedByEpoch(), _Judge(run, rows, batches, judge, save), bar, interrupt],
                shuffle=False,
                verbose=0,
            )
    finally:
        bar.close()
    sources = np.array([corpus.recordings[i].source for i, _ in crops])
    with averaged_weights(student, batches):
        write_report(run, rows, compare(student, targets, crops, front_end), sources)


def _examples(batches: CropBatches, first: int) -> Iterator[tuple[Any, Any]]:
    for batch in batches.generate(first):
        yield batch.log_mels, batch.answers


@contextmanager
def averaged_weights(student: Student, batches: CropBatches) -> Iterator[None]:
    """Give a student its averaged weights, with statistics of batch normalisation that suit them.

    Those of the last steps belong to the last weights. With them, the averaged weights answer
    much worse than the last ones.
    """
    sync_weights(student)
    held = [keras.ops.copy(weight) for weight in student.weights]
    assign_averages(student)
    for number in range(_STATISTICS_BATCHES):
        student(batches.batch(_STATISTICS_FIRST + number).log_mels, training=True)
    try:
        yield
    finally:
        for weight, value in zip(student.weights, held, strict=True):
            weight.assign(value)


class _Judge(keras.callbacks.Callback):
    """Judge the averaged weights after each epoch, then write the history and a checkpoint."""

    def __init__(
        self,
        run: Run,
        rows: list[Row],
        batches: CropBatches,
        judge: Callable[[], dict[str, float]],
        save: Callable[[dict[str, float]], None],
    ) -> None:
        super().__init__()
        self.run = run
        self.rows = rows
        self.batches = batches
        self.judge = judge
        self.save = save

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Judge and save."""
        logs = {} if logs is None else logs
        if not np.isfinite(logs.get("loss", 0.0)):
            raise RunError(f"epoch {epoch + 1}: the loss became {logs['loss']}.")
        with averaged_weights(self.model, self.batches):
            logs.update(self.judge())
            values = {name: float(value) for name, value in logs.items()}
            best = max((row.get(PROBE, 0.0) for row in self.rows), default=0.0)
            if values.get(PROBE, 0.0) >= best:
                self.save({"epoch": epoch + 1, **values})
        self.rows.append({"epoch": float(epoch + 1), **values})
        self.run.write_history(self.rows)
        save_weights(self.model, self.run.checkpoint)


def _restore(student: Student, run: Run, steps_per_epoch: int) -> int:
    """Load the checkpoint, if there is one; return the epoch at which to continue, from 0."""
    if not run.checkpoint.exists():
        return 0
    try:
        student.load_weights(run.checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run.checkpoint} cannot be read: {str(error)[:200]}") from error
    return int(student.optimizer.iterations) // steps_per_epoch
