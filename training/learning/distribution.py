"""Data-parallel training on JAX.

The loss compares all clips of a batch, so it cannot be computed for each device's part alone. JAX
partitions one program over all devices, and computes the same loss as a single device.
"""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from training.runs.run import Run

_NUM_PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"
_OTHER_BACKENDS = {
    "tensorflow": "MirroredStrategy would compare a clip with those on its own device alone",
    "torch": "Keras cannot share batches on PyTorch",
}


@dataclass(frozen=True)
class Devices:
    """Devices that train a model, in one process or in several.

    Args:
        distribution: how Keras spreads batches over the devices; None for a single device.
        process: index of this process. All run the same program; only process 0 keeps its files.
        num_processes: number of processes.
    """

    distribution: keras.distribution.DataParallel | None = None
    process: int = 0
    num_processes: int = 1

    @classmethod
    def select(cls, count: int | None, batch_size: int) -> "Devices":
        """Join the processes named by `KERAS_DISTRIBUTION_*` and select the first devices.

        Call it before any computation.

        Args:
            count: number of devices over all processes; None is one device in a single process,
                all devices in several.
            batch_size: clips per step, over all devices.

        Raises:
            ValueError: if the backend cannot share batches, there are fewer devices, or their
                number does not divide the batch size.
        """
        together = os.environ.get(_NUM_PROCESSES, "1") != "1"
        if not together and count in (None, 1):
            return cls()
        backend = keras.backend.backend()
        if backend != "jax":
            requested = f"{_NUM_PROCESSES}={os.environ[_NUM_PROCESSES]}" if together else count
            raise ValueError(
                f"several devices need KERAS_BACKEND=jax: {_OTHER_BACKENDS[backend]}, and the loss "
                f"compares all clips of a batch. Received: {requested} on {backend}"
            )
        if together:
            _join_processes()
        import jax

        names = keras.distribution.list_devices()
        count = len(names) if count is None else count
        if not 1 <= count <= len(names) or (together and count < len(names)):
            expected = f"{len(names)}, as all processes have" if together else f"1 to {len(names)}"
            raise ValueError(f"`devices` must be {expected} here. Received: {count}")
        if batch_size % count:
            raise ValueError(
                f"`devices` must divide a batch. Received: {count} devices, batches of {batch_size}"
            )
        distribution = keras.distribution.DataParallel(
            devices=names[:count],
            auto_shard_dataset=False,  # `share` selects each process' rows
        )
        return cls(distribution, jax.process_index(), jax.process_count())

    @property
    def leads(self) -> bool:
        """Whether this process reports to the user and keeps its files."""
        return self.process == 0

    def scope(self) -> AbstractContextManager[None]:
        """Context in which to build, compile and train the model.

        Outside it, each device evaluates the complete batch, whatever its size.
        """
        return self.distribution.scope() if self.distribution else nullcontext()

    def share(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield this process' rows of each batch.

        Args:
            batches: complete batches, the same in every process; their size must be a multiple of
                the number of processes.
        """
        for batch in batches:
            yield keras.tree.map_structure(self._rows, batch)

    def _rows(self, values: NDArray[Any]) -> NDArray[Any]:
        size = len(values) // self.num_processes
        return values[self.process * size : (self.process + 1) * size]

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks that training on these devices needs."""
        return [_UnsharedValidation(self.distribution)] if self.distribution else []

    def scratch_run(self, resume: Path | None) -> Run:
        """Create a temporary run for a process that does not lead; removed when it exits.

        Args:
            resume: the run that all processes resume, if any.
        """
        directory = Path(tempfile.mkdtemp(prefix="semanticac-run-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        if resume is not None:
            shutil.copytree(resume, directory, dirs_exist_ok=True)
        return Run(directory)


ONE_DEVICE = Devices()


def device_kind() -> str:
    """Return the kind of device Keras computes on, such as `"cpu"` or `"gpu"`."""
    if keras.backend.backend() != "torch":
        return str(keras.distribution.list_devices()[0]).partition(":")[0]
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


class _UnsharedValidation(keras.callbacks.Callback):
    """Give each device complete validation batches, whose size the devices need not divide."""

    def __init__(self, distribution: keras.distribution.DataParallel) -> None:
        super().__init__()
        self.distribution = distribution

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        keras.distribution.set_distribution(None)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        keras.distribution.set_distribution(self.distribution)


def _join_processes() -> None:
    """Connect to the processes that `KERAS_DISTRIBUTION_*` name."""
    # The other processes wait within a step, so an interrupted one cannot evaluate and export. It
    # exits immediately, and the run can be resumed.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        keras.distribution.initialize()
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the processes of this run could not be joined: {error}") from error
