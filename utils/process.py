"""How this process computes: its threads, and what it does with memory that it no longer uses."""

import ctypes

import torch as th
from threadpoolctl import threadpool_limits

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 1 << 30


def set_threads(n: int) -> None:
    """Sets the threads of torch and of NumPy's products, by which networks act; 1 if cores are shared."""
    th.set_num_threads(n)
    threadpool_limits(n, user_api="blas")


def keep_freed_memory() -> None:
    """Keeps up to a gigabyte of freed memory for what comes next, instead of returning it to the system.

    An update needs the same large tensors again and again, and to be given their pages anew can cost more than to
    compute them. Where the C library is not glibc, nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
