"""How many threads compute."""

import torch as th
from threadpoolctl import threadpool_limits


def set_threads(n: int) -> None:
    """For torch, and for NumPy's products, by which networks act; with more runs than cores, one is best."""
    th.set_num_threads(n)
    threadpool_limits(n, user_api="blas")
