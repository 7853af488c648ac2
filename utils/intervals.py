"""95 % intervals: of a share, by which win rates are judged, and of a mean."""

from collections.abc import Sequence
from math import inf, sqrt
from statistics import fmean, stdev


def wilson_interval(n_won: int, n_battles: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a share, 95 % for z = 1.96 (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212); in 0..1.

    Unlike the usual one it stays within 0..1 and keeps its width where nothing or everything was won.
    """
    share, square = n_won / n_battles, z * z / n_battles
    centre = share + square / 2
    half = z * sqrt(share * (1 - share) / n_battles + square / (4 * n_battles))
    return max(0.0, (centre - half) / (1 + square)), min(1.0, (centre + half) / (1 + square))


def mean_interval(values: Sequence[float], z: float = 1.96) -> tuple[float, float]:
    """The normal interval of a mean; a single value says nothing about how far it may be off."""
    if len(values) < 2:
        return -inf, inf
    half = z * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
