"""Programs that `test_distribution` runs in processes of their own.

    python -m tests.training.learning.distribution_programs NAME OPTION... DIRECTORY

The options are those of `training.fit`; the program writes its runs to the directory.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from semanticac_keras import ExportError, SemanticAC
from tests import micro
from training import fit
from training.learning.callbacks import Recorder
from training.runs import outcome


def two_devices(options: Sequence[str], directory: Path) -> int:
    """Train on one device; then on two, interrupted after the first epoch and resumed."""
    for invalid in (("--devices", "3"), ("--devices", "2", "--batch-size", "3")):
        assert fit.main([*options, *invalid, "--out", str(directory / "invalid")]) == 1
    options, two = [*options], directory / "two"
    with _without_export():
        assert fit.main([*options, "--out", str(directory / "one")]) == 1
        options += ["--devices", "2"]
        with _interrupt_after_first_epoch():
            fit.main([*options, "--out", str(two)])
    return fit.main([*options, "--resume", str(two)])


def two_processes(options: Sequence[str], directory: Path) -> int:
    """Train together with another process; the first of them then trains alone."""
    leads = os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] == "0"
    with _without_export():
        # The leader alone reports the failed export.
        assert fit.main([*options, "--out", str(directory / "two")]) == leads
        if leads:
            del os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"]
            assert fit.main([*options, "--out", str(directory / "one")]) == 1
    return 0


def two_replicas(options: Sequence[str], directory: Path) -> int:
    """Train a model under `tf.distribute` and print why it refuses."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = SemanticAC.from_preset(micro.NAME, ["a", "b"])
        model.compile("sgd")
    try:
        model.fit(np.zeros((4, 5120), np.float32), np.arange(4) % 2, verbose=0)
    except ValueError as error:
        print(error)
    return 0


PROGRAMS = {program.__name__: program for program in (two_devices, two_processes, two_replicas)}


@contextmanager
def _without_export() -> Iterator[None]:
    """Leave out the conversion, which takes longer than the training."""
    error = ExportError("left out in this test")
    with mock.patch.object(outcome, "export_tflite", side_effect=error):
        yield


@contextmanager
def _interrupt_after_first_epoch() -> Iterator[None]:
    """Raise what Ctrl-C raises, once the first checkpoint is written."""
    on_epoch_end = Recorder.on_epoch_end

    def interrupt(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        if epoch == 0:
            raise KeyboardInterrupt

    with mock.patch.object(Recorder, "on_epoch_end", interrupt):
        yield


if __name__ == "__main__":
    micro.register()
    name, *options, directory = sys.argv[1:]
    # Drawing the plots takes longer than the training, too.
    with mock.patch.object(fit, "write_report"):
        sys.exit(PROGRAMS[name](options, Path(directory)))
