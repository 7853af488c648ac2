"""One seed for a run, and from it one for each world that the run plays in."""

import numpy as np


def world_seeds(seed: int, n_worlds: int) -> list[int]:
    """Seeds independent of each other and of another run's; those of the first worlds do not depend on their number."""
    return [int(np.random.SeedSequence((seed, world)).generate_state(1)[0]) for world in range(n_worlds)]
