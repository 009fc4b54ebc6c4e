"""Keras callbacks of a training: validation, history, checkpoints and progress."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from semanticac_keras import SemanticAC
from semanticac_keras.progress import create_progress
from semanticac_keras.semantic_ac import sync_weights
from training.datasets.base import name_some
from training.runs.files import writing
from training.runs.run import Row, Run, RunError, best_epoch


def finalize_weights(model: SemanticAC, whole: bool = True) -> None:
    """Put a model in its final state: averaged weights assigned and label embeddings baked.

    Args:
        model: trained model.
        whole: see `SemanticAC.bake_labels`.
    """
    assign_averages(model)
    model.bake_labels(whole)


def assign_averages(model: keras.Model) -> None:
    """Assign the averaged weights, if the optimizer keeps them."""
    sync_weights(model)
    if model.optimizer.built:
        model.optimizer.finalize_variable_values(model.trainable_variables)
        # On JAX the weights now share the averages' buffers, which `predict` would free.
        for variable in model.trainable_variables:
            variable.assign(keras.ops.copy(variable))


def save_weights(model: keras.Model, path: Path) -> None:
    """Write weights and optimiser state, or leave `path` unchanged.

    Raises:
        RunError: if the file cannot be written.
    """
    with writing(path) as temporary:
        model.save_weights(temporary, overwrite=True)


class StopIfNotFinite(keras.callbacks.Callback):
    """Stop at the first loss or weight that is NaN or infinite, before anything is saved of it.

    It must come before the callbacks that save. Keras' own `TerminateOnNaN` lets the epoch end as
    if it were complete.

    Args:
        run: the run directory, to name it.
        names_of: returns the names of the clips of a batch, by epoch and batch from 0.
    """

    def __init__(self, run: Run, names_of: Callable[[int, int], Sequence[str]]) -> None:
        super().__init__()
        self.run = run
        self.names_of = names_of

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the mean loss of the epoch's batches so far."""
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            names = name_some(self.names_of(self.epoch, batch))
            self._stop(f"the loss became {loss} in batch {batch + 1} ({names})")

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check the weights before they are validated and perhaps saved."""
        self._check_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the figures and the weights before they are saved."""
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                self._stop(f"{name} became {float(value)}")
        self._check_weights()

    def _check_weights(self) -> None:
        sync_weights(self.model)
        model = self.model  # frozen parts do not change
        for variable in [
            *model.trainable_variables,
            *model.audio_tower.non_trainable_variables,
            *model.optimizer.variables,
        ]:
            values = keras.ops.convert_to_numpy(variable)
            # bfloat16 is unknown to numpy itself.
            if values.dtype.kind != "i" and not np.isfinite(values.astype(np.float32)).all():
                self._stop(f"{variable.path} became NaN or infinite")

    def _stop(self, what: str) -> None:
        resume = ""
        if self.run.checkpoint.exists():
            resume = f"; --resume {self.run.directory} continues after the last saved epoch"
        raise RunError(
            f"epoch {self.epoch + 1}: {what}. Nothing of this epoch was saved. Try a lower "
            f"--learning-rate, or --precision float32{resume}."
        )


class Validation(keras.callbacks.Callback):
    """Validate with the averaged weights, which the run keeps; Keras would use the current ones.

    Args:
        run: the run directory.
        rows: the history, which a `Recorder` extends.
        select: save the weights of the best epoch.
    """

    def __init__(self, run: Run, rows: list[Row], select: bool) -> None:
        super().__init__()
        self.run = run
        self.rows = rows
        self.select = select

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remove superseded weights, now that the checkpoint covers the last epoch."""
        self.epoch = epoch + 1
        if self.select:
            self.run.keep_selected(best_epoch(self.rows))

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Replace the weights by their averages."""
        self.current = [keras.ops.copy(variable) for variable in self.model.trainable_variables]
        finalize_weights(self.model, whole=False)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Save the validated weights if they are the best so far, then restore the current ones."""
        measured = {f"val_{key}": float(value) for key, value in (logs or {}).items()}
        row = {"epoch": self.epoch, **measured}
        if self.select and best_epoch([*self.rows, row]) == self.epoch:
            save_weights(self.model, self.run.selected(self.epoch))
        for variable, value in zip(self.model.trainable_variables, self.current, strict=True):
            variable.assign(value)


class Recorder(keras.callbacks.Callback):
    """Append each epoch to the history and save a checkpoint to resume from.

    Args:
        run: the run directory.
        rows: history of the epochs before a resume; extended in place.
    """

    def __init__(self, run: Run, rows: list[Row]) -> None:
        super().__init__()
        self.run = run
        self.rows = rows

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()
        self.seconds: float | None = None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stop the clock: validation is not training."""
        self.seconds = time.perf_counter() - self.started

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the row, then the checkpoint: a resume drops rows newer than the checkpoint."""
        if self.seconds is None:  # no validation clips
            self.seconds = time.perf_counter() - self.started
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": float(epoch + 1), **values, "seconds": self.seconds})
        self.run.write_history(self.rows)
        save_weights(self.model, self.run.checkpoint)


class SeedByEpoch(keras.callbacks.Callback):
    """Derive the model's random state from the epoch, so that a resumed run draws the same numbers.

    Keras does not save the state of its seed generators.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set each seed generator's counter for this epoch, far from those of other epochs."""
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                seed = keras.ops.convert_to_numpy(variable)[0]
                variable.assign(np.array([seed, epoch << 20], variable.dtype))


class ProgressBar(keras.callbacks.Callback):
    """Progress over all steps, with a line per epoch, on stderr.

    Args:
        epochs: number of epochs of the complete run.
        first_epoch: epoch at which a resumed run continues, from 0.
    """

    def __init__(self, epochs: int, first_epoch: int = 0) -> None:
        super().__init__()
        self.epochs = epochs
        self.first_epoch = first_epoch
        self.bar = create_progress("percent")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Draw the bar, once for all phases."""
        if self.bar.tasks:
            return
        steps = self.params["steps"] or 1
        self.task = self.bar.add_task(
            "training", total=self.epochs * steps, completed=self.first_epoch * steps
        )
        self.bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance the bar."""
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the epoch's figures."""
        figures = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        self.bar.console.print(
            f"epoch {epoch + 1:>3}/{self.epochs}  {figures}", highlight=False, soft_wrap=True
        )

    def close(self) -> None:
        """Restore the terminal. Call it after an interrupt too, when Keras calls no hook."""
        self.bar.stop()
