"""Estimates over seeds and tasks, each with an interval of 95 % by the stratified bootstrap.

As Agarwal et al. 2021 (arXiv 2108.13264) and Gorsane et al. 2022 (arXiv 2209.10485) ask for: seeds are drawn with
replacement within each task, test episodes never. A sample is a list with one array [seed] or [seed, point] per task.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from utils.errors import UserError

RESAMPLES = 2000
SEEDS_FOR_A_CLAIM = 10
Sample = Sequence[np.ndarray]
Statistic = Callable[..., np.ndarray]


def scipy_stats() -> Any:
    """Returns `scipy.stats`. Raises: UserError where SciPy is not installed."""
    try:
        from scipy import stats
    except ImportError as error:
        raise UserError("reports need SciPy; run: pip install -r requirements-report.txt") from error
    return stats


class Interval(NamedTuple):
    """An estimate and its interval of 95 %; numbers, or arrays [point]. Without two seeds in each task: no interval."""

    value: float
    low: float | None
    high: float | None


class Band(NamedTuple):
    """Estimates at several points with their intervals, arrays [point]; NaN where there are not two seeds."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap(sample: Sample, statistic: Statistic) -> Band:
    """Returns a statistic of one array per task, which takes their seeds along the axis 0, with its percentiles.

    Raises: UserError where SciPy is not installed.
    """
    value = np.asarray(statistic(*sample, axis=0), float)
    if min(len(of_task) for of_task in sample) < 2:
        return Band(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    found = scipy_stats().bootstrap(
        tuple(sample),
        statistic,
        axis=0,
        vectorized=True,
        paired=False,  # each task's seeds are drawn by themselves: the stratified bootstrap
        method="percentile",
        n_resamples=RESAMPLES,
        batch=200,
        rng=np.random.default_rng(0),
    )
    return Band(value, *(np.asarray(limit, float) for limit in found.confidence_interval))


def estimate(sample: Sample, statistic: Statistic) -> Interval:
    """Returns the `bootstrap` of a statistic that is one number."""
    value, low, high = (float(part) for part in bootstrap(sample, statistic))
    return Interval(value, None if np.isnan(low) else low, None if np.isnan(high) else high)


def mean(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Returns the mean over tasks of the means over seeds."""
    return np.mean([of_task.mean(axis) for of_task in tasks], 0)


def iqm(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Returns the interquartile mean: that of the middle half of all scores of all tasks."""
    return scipy_stats().trim_mean(np.concatenate(tasks, axis), 0.25, axis)


def optimality_gap(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Returns how far scores stay below 1 on average; what lies above does not make up for it."""
    return 1 - mean(*(np.minimum(of_task, 1) for of_task in tasks), axis=axis)


def profile(sample: Sample, thresholds: np.ndarray) -> Band:
    """Returns the share of runs [threshold] that score above each of the thresholds, the mean over tasks."""
    return bootstrap([(of_task[:, None] > thresholds).astype(float) for of_task in sample], mean)


def improvement(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Returns P(X > Y), the mean over tasks of the chance that a run of X scores above one of Y; ties count half.

    The first half of the arrays are X's, the second Y's, in the same order of tasks.
    """
    n = len(tasks) // 2
    chances = []
    for x, y in zip(tasks[:n], tasks[n:]):
        x, y = np.moveaxis(x, axis, -1)[..., :, None], np.moveaxis(y, axis, -1)[..., None, :]
        chances.append(((x > y) + 0.5 * (x == y)).mean((-2, -1)))
    return np.mean(chances, 0)


def claim(names: Sequence[str], estimates: Sequence[Interval], seeds: Sequence[int]) -> list[str]:
    """Returns which of the methods may be said to be better than which: sentences, or the reasons why not.

    That takes intervals that lie apart and at least ten seeds of both.
    """
    if min(seeds, default=0) < 2:
        return ["Some methods have fewer than two finished runs per task: no interval, and nothing is claimed."]
    order = sorted(range(len(names)), key=lambda i: -estimates[i].value)
    claims: list[str] = []
    few: list[str] = []
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            above, below = estimates[i], estimates[j]
            if above.low is not None and below.high is not None and above.low > below.high:
                n = min(seeds[i], seeds[j])
                sentence = f"{names[i]} is above {names[j]}"
                (claims if n >= SEEDS_FOR_A_CLAIM else few).append(sentence)
    found = [f"{sentence}." for sentence in claims]
    if few:
        found.append(
            f"No claim, though intervals lie apart ({'; '.join(few)}): a claim takes {SEEDS_FOR_A_CLAIM} seeds of "
            f"both, and there are {min(seeds)}."
        )
    if len(claims) + len(few) < len(names) * (len(names) - 1) // 2:
        found.append("All other intervals overlap." if found else "All intervals overlap: no order can be told.")
    return found
