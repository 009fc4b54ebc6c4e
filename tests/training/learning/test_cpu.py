"""Large buffers stay with the process, unless the user decides otherwise."""

import os
import subprocess
import sys

import pytest

# The allocator cannot be reset, so each case has a process of its own.
PROGRAM = """
import ctypes, resource
from training.learning.allocator import keep_freed_memory

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

changed = keep_freed_memory()
use_buffers()
print(changed, use_buffers())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize(("value", "changes"), [(None, True), ("0", False)])
def test_buffers_are_used_again_without_page_faults(value, changes):
    environment = {name: v for name, v in os.environ.items() if name != "SEMANTICAC_KEEP_MEMORY"}
    if value is not None:
        environment["SEMANTICAC_KEEP_MEMORY"] = value
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    changed, faults = done.stdout.split()
    assert changed == str(changes)
    assert (int(faults) < 100) is changes
