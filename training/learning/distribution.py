"""Training on several devices that share each batch, on JAX.

The loss compares all clips of a batch, so it must see the whole batch. JAX computes one program
over all devices and so finds what a single device would.
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
    """The devices a model is trained on; of one process, or of several that train together.

    Args:
        distribution: how Keras spreads batches over them; None for a single device.
        process: number of this process; all do the same, and 0 alone keeps what it writes.
        num_processes: how many there are.
    """

    distribution: keras.distribution.DataParallel | None = None
    process: int = 0
    num_processes: int = 1

    @classmethod
    def select(cls, count: int | None, batch_size: int) -> "Devices":
        """The first `count` devices, after joining the processes that Keras' environment names.

        Call it before anything is computed.

        Args:
            count: devices of all processes together; None is one, or all of several processes.
            batch_size: clips a step, over all devices.

        Raises:
            ValueError: if the backend cannot, there are fewer, or they do not divide a batch.
        """
        together = os.environ.get(_NUM_PROCESSES, "1") != "1"
        if not together and count in (None, 1):
            return cls()
        backend = keras.backend.backend()
        if backend != "jax":
            wanted = f"{_NUM_PROCESSES}={os.environ[_NUM_PROCESSES]}" if together else count
            raise ValueError(
                f"several devices need KERAS_BACKEND=jax: {_OTHER_BACKENDS[backend]}, and the loss "
                f"compares all clips of a batch. Received: {wanted} on {backend}"
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
            auto_shard_dataset=False,  # each process makes its own share
        )
        return cls(distribution, jax.process_index(), jax.process_count())

    @property
    def leads(self) -> bool:
        """Whether this process tells the user and keeps what it writes."""
        return self.process == 0

    def scope(self) -> AbstractContextManager[None]:
        """Where the model is built, compiled and trained.

        Outside, each device evaluates the whole of any batch, whatever its size.
        """
        return self.distribution.scope() if self.distribution else nullcontext()

    def share(self, batches: Iterator[Any]) -> Iterator[Any]:
        """This process' rows of each batch; every process makes the whole of it.

        Args:
            batches: the same in every process, of a size that the processes divide.
        """
        for batch in batches:
            yield keras.tree.map_structure(self._rows, batch)

    def _rows(self, values: NDArray[Any]) -> NDArray[Any]:
        size = len(values) // self.num_processes
        return values[self.process * size : (self.process + 1) * size]

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """What training needs besides."""
        return [_WholeValidation(self.distribution)] if self.distribution else []

    def scratch_run(self, resume: Path | None) -> Run:
        """Where a process that does not lead writes: it is gone when the process ends.

        Args:
            resume: the run that all processes go on with, if any.
        """
        directory = Path(tempfile.mkdtemp(prefix="semanticac-run-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        if resume is not None:
            shutil.copytree(resume, directory, dirs_exist_ok=True)
        return Run(directory)


ONE_DEVICE = Devices()


def device_kind() -> str:
    """What Keras computes on: `"cpu"`, `"gpu"` or what else it calls it."""
    if keras.backend.backend() != "torch":
        return str(keras.distribution.list_devices()[0]).partition(":")[0]
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


class _WholeValidation(keras.callbacks.Callback):
    """Give each device the whole of a validation batch: its size need not be a multiple."""

    def __init__(self, distribution: keras.distribution.DataParallel) -> None:
        super().__init__()
        self.distribution = distribution

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        keras.distribution.set_distribution(None)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        keras.distribution.set_distribution(self.distribution)


def _join_processes() -> None:
    """Connect to the processes that `KERAS_DISTRIBUTION_*` name."""
    # An interrupted process cannot conclude the run, for the others wait for it within a step: it
    # ends at once, and the run can be resumed.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        keras.distribution.initialize()
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the processes of this run could not be joined: {error}") from error
