"""How sure a mean over episodes is, where they come from several seeds and several teammates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean and its interval of 95 %."""

    mean: float
    low: float
    high: float


def bootstrap(
    results: Sequence[float], seeds: Sequence[object], teams: Sequence[object], rng: np.random.Generator
) -> Estimate:
    """The mean of one result per episode, resampled over its seeds and, independently, over its teams of teammates.

    Episodes of one seed, or with the same teammates, are no independent draws. So whole seeds and whole teams are drawn
    with replacement, each level by itself (Owen 2007, *The pigeonhole bootstrap*), and percentiles are taken.
    """
    if not len(results) == len(seeds) == len(teams) > 0:
        raise ValueError(f"{len(results)} results of {len(seeds)} seeds and {len(teams)} teams: equally many, and some")
    names = [{name: i for i, name in enumerate(dict.fromkeys(level))} for level in (seeds, teams)]
    s, k = (np.array([index[name] for name in level]) for index, level in zip(names, (seeds, teams), strict=True))
    sums, counts = np.zeros((2, len(names[0]), len(names[1])))
    np.add.at(sums, (s, k), np.asarray(results, float))
    np.add.at(counts, (s, k), 1.0)
    of_seeds, of_teams = (
        rng.multinomial(len(index), np.full(len(index), 1 / len(index)), RESAMPLES) for index in names
    )
    drawn = np.einsum("ns,sk,nk->n", of_seeds, counts, of_teams, optimize=True)
    means = np.einsum("ns,sk,nk->n", of_seeds, sums, of_teams, optimize=True)[drawn > 0] / drawn[drawn > 0]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(float(np.mean(np.asarray(results, float))), float(low), float(high))
