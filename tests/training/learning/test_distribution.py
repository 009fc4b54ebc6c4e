"""Devices and processes that share batches learn what one device does.

How many devices JAX has is decided when it starts, so these runs have processes of their own.
"""

import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from edge import read_contract
from training import fit as command
from training.learning.distribution import Devices
from training.runs import jobs

# The order of float32 sums is all that differs; SGD does not enlarge it, as Adam would.
TOLERANCE = 2e-5
OPTIONS = ("--epochs", "2", "--optimizer", "sgd", "--ema-momentum", "0.5", "--mixup", "0.1")

# Without what takes longer than the training: a conversion and pictures.
TRAIN_ALONE = """
from semanticac_keras import ExportError
from training import fit
from training.runs import outcome
export = outcome.export_tflite

def no_bundle(*_, **__):
    raise ExportError("none wanted")

*arguments, run = sys.argv[1:]
outcome.export_tflite = no_bundle
fit.write_report = lambda *_: None
"""

TWO_DEVICES = """
for wrong in (["--devices", "3"], ["--devices", "2", "--batch-size", "3"]):
    assert main([*arguments, *wrong, "--out", run + "/wrong"]) == 1

assert main([*arguments, "--out", run + "/one"]) == 1

from training.learning.callbacks import Recorder
write = Recorder.on_epoch_end

def interrupt(self, epoch, logs=None):
    write(self, epoch, logs)
    if epoch == 0:
        raise KeyboardInterrupt

Recorder.on_epoch_end = interrupt
arguments += ["--devices", "2"]
main([*arguments, "--out", run + "/two"])
Recorder.on_epoch_end = write
outcome.export_tflite = export
sys.exit(main([*arguments, "--resume", run + "/two"]))
"""

TWO_REPLICAS = """
import keras, tensorflow as tf
import numpy as np
from semanticac_keras import SemanticAC

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = SemanticAC.from_preset("micro", ["a", "b"])
    model.compile("sgd")
try:
    model.fit(np.zeros((4, 5120), np.float32), np.arange(4) % 2, verbose=0)
except ValueError as error:
    print(error)
"""

TWO_PROCESSES = """
import os
leads = os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] == "0"
assert main([*arguments, "--out", run + "/two"]) == leads  # it says that there is no bundle
if leads:
    del os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"]
    assert main([*arguments, "--out", run + "/one"]) == 1
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Environment in which JAX compiles each program once, and fast."""
    pytest.importorskip("jax")
    return {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("programs")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture
def start(micro_arguments, tmp_path, programs):
    """`start(script, **environment)`: a process that runs it on JAX, with the micro preset."""
    prelude = jobs._FIT[-1].removesuffix("sys.exit(main())\n") + TRAIN_ALONE
    processes = []

    def start(script, **environment):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", prelude + script, *micro_arguments, *OPTIONS, str(tmp_path)],
                env={**os.environ, "KERAS_BACKEND": "jax", **programs, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def finish(process):
    """What it said, once it has ended well."""
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return output, errors


def assert_same(run, expected):
    """Losses of each epoch and final weights."""
    rows, expected_rows = (
        np.genfromtxt(path / "history.csv", delimiter=",", names=True) for path in (run, expected)
    )
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(rows[name], expected_rows[name], rtol=TOLERANCE, atol=TOLERANCE)
    weights, expected_weights = (
        keras.saving.load_model(path / "model.keras").get_weights() for path in (run, expected)
    )
    for values, expected_values in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(values, expected_values, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.slow
def test_two_devices_learn_what_one_does_interrupted_and_resumed(start, tmp_path):
    _, errors = finish(start(TWO_DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=2"))
    assert_same(tmp_path / "two", tmp_path / "one")
    assert read_contract(tmp_path / "two" / "model.tflite").labels == ("hiss", "low hum")
    assert "`devices` must be 1 to 2 here. Received: 3" in errors
    assert "`devices` must divide a batch. Received: 2 devices, batches of 3" in errors
    assert not (tmp_path / "wrong").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_one_of_them_writes(start, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        start(
            TWO_PROCESSES,
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(number),
        )
        for number in range(2)
    ]
    (leader, _), (follower, _) = map(finish, processes)
    assert_same(tmp_path / "two", tmp_path / "one")
    assert "report" in leader
    assert "report" not in follower


@pytest.mark.slow
def test_replicas_that_would_see_a_part_of_each_batch_are_refused(start):
    output, _ = finish(start(TWO_REPLICAS, KERAS_BACKEND="tensorflow"))
    assert "`tf.distribute` splits a batch between 2 replicas" in output


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="of the other backends")
def test_other_backends_refuse(micro_arguments, tmp_path, capsys, monkeypatch):
    assert command.main([*micro_arguments, "--devices", "2", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "KERAS_BACKEND=jax" in error
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="KERAS_DISTRIBUTION_NUM_PROCESSES=2 on"):
        Devices.select(None, 16)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX knows its devices")
@pytest.mark.parametrize(("count", "message"), [(0, "1 to"), (1000, "1 to")])
def test_devices_that_are_not_there_are_refused(count, message):
    with pytest.raises(ValueError, match=f"must be {message} .* Received: {count}"):
        Devices.select(count, 1000)
