"""Settings for a CPU: applied by default, and left alone on request."""

import subprocess
import sys

import pytest

from training.learning.cpu import has_bfloat16

# The allocator cannot be reset, so this is a process of its own.
PROGRAM = """
import ctypes, os, resource
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

for tuned in ("0", "1"):
    os.environ["SEMANTICAC_CPU_TUNING"] = tuned
    tune_for_cpu()
    use_buffers()
    print(use_buffers())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_buffers_are_reused_without_page_faults():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    untuned, tuned = map(int, done.stdout.split())
    assert tuned < 100 < untuned


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("Features\t: fp asimd", False),
        ("model name\t: bf16", False),
    ],
)
def test_bfloat16_is_read_from_the_processors_flags(line, expected, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert has_bfloat16(tmp_path / "cpuinfo") is expected


def test_a_system_without_flags_has_no_bfloat16(tmp_path):
    assert not has_bfloat16(tmp_path / "cpuinfo")
