"""Settings that make training faster on a CPU; measurements are in docs/performance.md."""

import ctypes
import os
from pathlib import Path

import keras

# "0" leaves the allocator and TensorFlow's graph optimizer as they are.
VARIABLE = "SEMANTICAC_CPU_TUNING"

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = (1 << 31) - 1
_GROWTH_BYTES = 256 << 20

# As Linux names them, on x86 and on ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def tune_for_cpu() -> None:
    """Apply the settings to this process, unless the environment has `SEMANTICAC_CPU_TUNING=0`.

    `training/__init__.py` has switched on TensorFlow's oneDNN kernels: TensorFlow reads their
    variable when it is imported.
    """
    if os.environ.get(VARIABLE) == "0":
        return
    keep_freed_memory()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Rewriting the graph of a training step takes seconds and makes the step no faster.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def keep_freed_memory() -> bool:
    """Stop glibc from returning large buffers to the system; repeated calls are harmless.

    By default it maps each large buffer afresh and unmaps it when freed. TensorFlow allocates
    hundreds of them in every step, and the page faults took half of a step's CPU time. The process
    then never gets smaller than its largest step, which a command that trains and ends can afford.

    Returns:
        Whether the C library is glibc and accepted the settings.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(
        libc.mallopt(parameter, value)
        for parameter, value in (
            (_M_MMAP_MAX, 0),
            (_M_TRIM_THRESHOLD, _NEVER),
            (_M_TOP_PAD, _GROWTH_BYTES),
        )
    )


def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor multiplies bfloat16 itself, as far as the system says so.

    Args:
        cpuinfo: Linux' description of the processors.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return not _BFLOAT16_FLAGS.isdisjoint(next(flags, "").split())
