"""What happens around the epochs of a run."""

import sys
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edge.files import replacing
from training.run import Run


class Recorder(keras.callbacks.Callback):
    """Append each epoch to the history and keep a checkpoint to resume from.

    Args:
        run: the run directory.
        rows: history of the epochs before, when resuming.
    """

    def __init__(self, run: Run, rows: list[dict[str, float]]) -> None:
        super().__init__()
        self.run = run
        self.rows = rows

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the checkpoint, then the row: a row without a checkpoint would be a lie."""
        with replacing(self.run.checkpoint) as temporary:
            self.model.save_weights(temporary, overwrite=True)
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": float(epoch + 1), **values})
        self.run.write_history(self.rows)


class SeedByEpoch(keras.callbacks.Callback):
    """Set the model's random streams by the epoch, so that a resumed run draws the same numbers.

    Keras saves the state of no random stream.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Move each stream to its place for this epoch, far from the other epochs'."""
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                seed = keras.ops.convert_to_numpy(variable)[0]
                variable.assign(np.array([seed, epoch << 20], variable.dtype))


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps, and a line an epoch, on stderr.

    Args:
        epochs: of the whole run.
        first_epoch: where a resumed run goes on.
    """

    def __init__(self, epochs: int, first_epoch: int = 0) -> None:
        super().__init__()
        self.epochs = epochs
        self.first_epoch = first_epoch
        self.console = Console(file=sys.stderr)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=self.console,
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Draw the bar."""
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
        self.console.print(
            f"epoch {epoch + 1:>3}/{self.epochs}  {figures}", highlight=False, soft_wrap=True
        )

    def close(self) -> None:
        """Leave the terminal as it was; also after an interrupt, when Keras calls no hook."""
        self.bar.stop()
