"""One seed for a run, and from it one for each world that the run plays in, and for the worlds that replace it."""

import numpy as np


def world_seeds(seed: int, n_worlds: int) -> list[int]:
    """Seeds independent of each other and of another run's; those of the first worlds do not depend on their number."""
    return [int(np.random.SeedSequence((seed, world)).generate_state(1)[0]) for world in range(n_worlds)]


def replacement_seed(seed: int, n_restarts: int) -> int:
    """The seed of the world that replaces the one of this seed for the n-th time, n counted from 1."""
    return world_seeds(seed, n_restarts + 1)[-1]
