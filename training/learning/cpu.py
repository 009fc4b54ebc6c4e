"""Memory that training frees stays with the process, to be used again in the next step."""

import ctypes
import os

VARIABLE = "SEMANTICAC_KEEP_MEMORY"

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = (1 << 31) - 1
_GROWTH_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Stop glibc from returning large buffers to the system; repeated calls are harmless.

    By default it maps each large buffer afresh and unmaps it when freed. TensorFlow allocates
    hundreds of them in every step, and the page faults took half of a step's CPU time. The process
    then never gets smaller than its largest step, which a command that trains and ends can afford.

    Returns:
        Whether the allocator was changed: not with another C library, and not with the environment
        variable `SEMANTICAC_KEEP_MEMORY=0`.
    """
    if os.environ.get(VARIABLE) == "0":
        return False
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
