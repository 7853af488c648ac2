"""One seed for a run, and from it one for each world that the run plays in, for the worlds that replace it, and for
each kind of random numbers.
"""

from zlib import crc32

import numpy as np


def world_seeds(seed: int, n_worlds: int) -> list[int]:
    """Returns independent seeds, other ones in each run; those of the first worlds do not depend on `n_worlds`."""
    return [int(np.random.SeedSequence((seed, world)).generate_state(1)[0]) for world in range(n_worlds)]


def replacement_seed(seed: int, n_restarts: int) -> int:
    """Returns the seed of the world that replaces the one of this seed for the n-th time, n counted from 1."""
    return world_seeds(seed, n_restarts + 1)[-1]


def named_seed(seed: int, name: str) -> int:
    """Returns the seed of one kind of random numbers; those of other names are independent of it."""
    return int(np.random.SeedSequence((seed, crc32(name.encode()))).generate_state(1)[0])
