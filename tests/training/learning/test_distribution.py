"""Devices or processes that share each batch compute the same weights as one device.

JAX fixes its number of devices when it starts, so each training runs in its own process.
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

PROGRAMS = "tests.training.learning.distribution_programs"

# Only the order of float32 sums differs; SGD does not amplify the difference, as Adam would.
TOLERANCE = 2e-5
OPTIONS = ("--epochs", "2", "--optimizer", "sgd", "--ema-momentum", "0.5", "--mixup", "0.1")


@pytest.fixture(scope="module")
def compilation(tmp_path_factory):
    """Environment in which JAX compiles fast, and each computation once."""
    pytest.importorskip("jax")
    return {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture
def start(micro_arguments, tmp_path, compilation):
    """`start(program, **environment)`: start one of `distribution_programs`, on JAX by default."""
    options = [*micro_arguments, *OPTIONS, str(tmp_path)]
    processes = []

    def start(program, **environment):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", PROGRAMS, program, *options],
                env={**os.environ, "KERAS_BACKEND": "jax", **compilation, **environment},
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
    """Wait for a process to succeed; return its stdout and stderr."""
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return output, errors


def assert_same(run, expected):
    """Compare the losses of each epoch and the final weights."""
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
def test_two_devices_match_one_after_an_interrupt_and_resume(start, tmp_path):
    _, errors = finish(start("two_devices", XLA_FLAGS="--xla_force_host_platform_device_count=2"))
    assert_same(tmp_path / "two", tmp_path / "one")
    assert read_contract(tmp_path / "two" / "model.tflite").labels == ("hiss", "low hum")
    assert "`devices` must be 1 to 2 here. Received: 3" in errors
    assert "`devices` must divide a batch. Received: 2 devices, batches of 3" in errors
    assert not (tmp_path / "invalid").exists()


@pytest.mark.slow
def test_two_processes_match_one_and_only_the_leader_reports(start, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        start(
            "two_processes",
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
def test_replicas_that_split_a_batch_are_refused(start):
    output, _ = finish(start("two_replicas", KERAS_BACKEND="tensorflow"))
    assert "`tf.distribute` splits a batch between 2 replicas" in output


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX can share batches")
def test_other_backends_refuse_several_devices(micro_arguments, tmp_path, capsys, monkeypatch):
    assert command.main([*micro_arguments, "--devices", "2", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "KERAS_BACKEND=jax" in error
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="KERAS_DISTRIBUTION_NUM_PROCESSES=2 on"):
        Devices.select(None, 16)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX lists its devices")
@pytest.mark.parametrize(("count", "message"), [(0, "1 to"), (1000, "1 to")])
def test_a_count_that_the_machine_lacks_is_refused(count, message):
    with pytest.raises(ValueError, match=f"must be {message} .* Received: {count}"):
        Devices.select(count, 1000)
