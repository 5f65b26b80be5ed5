"""Memory that a training step frees and asks for again stays with the process."""

import ctypes
import sys

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**31 - 1
LARGEST_BLOCK_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Tell the allocator to keep freed blocks of tensors; return whether it listens (glibc).

    By default every tensor above 32 MB is mapped anew and handed over page by page: a quarter of
    the time of a packed AVSiam-Base step on a CPU (benchmarks/train_step.py).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mapped = mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK_BYTES)
    return bool(kept and mapped)
