"""Freed memory stays with the process."""

from __future__ import annotations

import ctypes
import sys

# Names of malloc.h, and the largest value that glibc takes for the second.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_BYTES = 32 * 2**20


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to the largest amount ever in use.

    A step frees some megabytes and wants them back a moment later. Where glibc returns them to the
    system meanwhile, which depends on what happens to lie behind them, they come back page by page
    and zeroed: a step of Gauss-Newton then took up to 1.7 times as long.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
            libc.mallopt(M_MMAP_THRESHOLD, MOST_BYTES)
