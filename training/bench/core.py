"""Pins a process to one core and measures the peak arithmetic rate of the core."""

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

# Libraries read these variables when they are loaded.
_THREAD_COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"),
)
SINGLE_THREADED = dict.fromkeys(_THREAD_COUNTS, "1")

_TURN_SECONDS = 0.2
_PRODUCT_SIZE = 1024
# Twelve independent sums hide the latency of a multiply-add on two units and fit into the
# registers of every supported processor.
_SUMS = 12
_FUSED_MULTIPLY_ADDS = """
#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
typedef float lanes __attribute__((vector_size(sizeof(float) * LANES)));
int width(void) { return LANES; }
float compute(long rounds) {
    lanes sums[SUMS], factor, term;
    for (int j = 0; j < LANES; j++) { factor[j] = 0.999f; term[j] = 0.001f; }
    for (int i = 0; i < SUMS; i++) sums[i] = term * (float)i;
    for (long k = 0; k < rounds; k++)
        for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * factor + term;
    for (int i = 1; i < SUMS; i++) sums[0] += sums[i];
    return sums[0][0];
}
"""


def stay_on_one_core() -> None:
    """Pin this process to the last core available to it, if the system supports pinning."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def product_flops_per_second() -> float:
    """Float32 operations per second of CPU time in numpy's product of square matrices."""
    a, b = np.random.default_rng(0).standard_normal((2, _PRODUCT_SIZE, _PRODUCT_SIZE), np.float32)
    out = np.empty_like(a)

    def multiply(times: int) -> None:
        for _ in range(times):
            np.matmul(a, b, out=out)

    return 2.0 * _PRODUCT_SIZE**3 / _seconds_each(multiply)


class FusedMultiplyAdds:
    """Compiled loop of fused multiply-adds in registers: the peak rate of a core.

    Raises:
        OSError: if there is no C compiler, or compilation fails.
    """

    def __init__(self) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise OSError("no C compiler was found: install cc, gcc or clang")
        with tempfile.TemporaryDirectory(prefix="training.bench-") as directory:
            source, library = Path(directory) / "fma.c", Path(directory) / "fma.so"
            source.write_text(_FUSED_MULTIPLY_ADDS)
            options = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
            command = [compiler, *options, f"-DSUMS={_SUMS}", str(source), "-o", str(library)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"{compiler} failed: {' '.join(done.stderr.split())[:200]}")
            self._library = ctypes.CDLL(str(library))
        self._library.compute.argtypes = [ctypes.c_long]
        self._library.compute.restype = ctypes.c_float

    def flops_per_second(self) -> float:
        """Float32 operations per second of CPU time."""
        flops = 2.0 * _SUMS * self._library.width()
        return flops / _seconds_each(self._library.compute)


def _seconds_each(work: Callable[[int], object]) -> float:
    """CPU seconds per repetition of `work`, over enough repetitions to measure reliably."""
    times = 1
    while True:
        started = time.process_time()
        work(times)
        seconds = time.process_time() - started
        if seconds >= _TURN_SECONDS:
            return seconds / times
        times = 1 + int(1.2 * times * _TURN_SECONDS / max(seconds, 1e-3))
