"""Settings for a CPU: applied by default, and left alone on request."""

import os
import subprocess
import sys

import pytest

# The allocator cannot be reset, so each case has a process of its own.
PROGRAM = """
import ctypes, resource, sys
from training.learning.cpu import tune_for_cpu

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use_buffers():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        for buffer in [libc.malloc(40 << 20) for _ in range(2)]:
            libc.memset(buffer, 1, 40 << 20)
            libc.free(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

tune_for_cpu()
use_buffers()
print(use_buffers())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize("tuned", [True, False])
def test_large_buffers_are_reused_without_page_faults(tuned):
    variables = {**os.environ, "SEMANTICAC_CPU_TUNING": str(int(tuned))}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 100) is tuned
