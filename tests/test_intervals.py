"""Intervals over two levels: they cover what they should, and see through episodes that are not independent."""

import numpy as np
import pytest
from scipy import stats

from utils.intervals import bootstrap, mean_interval


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [2, 3, 5, 31, 32, 50, 1000])
def test_the_interval_of_a_mean_is_students(n):
    values = rng().normal(size=n)
    expected = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values.tolist()) == pytest.approx(expected, abs=5e-4 * stats.sem(values) * n**0.5)


def test_one_value_says_nothing_about_its_error():
    assert mean_interval([5.0]) == (-np.inf, np.inf)


def test_without_any_difference_there_is_no_doubt():
    assert bootstrap([0.5] * 12, [1, 2, 3] * 4, ["a", "b"] * 6, rng()) == (0.5, 0.5, 0.5)


def test_the_mean_is_of_all_episodes_and_lies_inside():
    results = [0, 0, 1, 1, 1, 0, 1, 1]
    estimate = bootstrap(results, [1, 1, 1, 1, 2, 2, 2, 2], ["a", "b"] * 4, rng())
    assert estimate.mean == pytest.approx(5 / 8) and estimate.low < 5 / 8 < estimate.high


def test_the_same_generator_gives_the_same_interval_and_the_order_does_not_matter():
    draws = rng(3).random(40)
    seeds, teams = [i % 4 for i in range(40)], [i // 4 for i in range(40)]
    assert bootstrap(draws, seeds, teams, rng()) == bootstrap(draws, seeds, teams, rng())


@pytest.mark.parametrize("level", ["seeds", "teams"])
def test_more_episodes_of_the_same_seeds_or_teams_do_not_make_it_surer(level):
    """All the variance is between the four groups of one level; a bootstrap over episodes would shrink tenfold."""
    of_group = np.array([0.1, 0.3, 0.7, 0.9])

    def width(n_episodes):
        groups, others = np.repeat(np.arange(4), n_episodes), np.tile(np.arange(n_episodes), 4)
        levels = (groups, others) if level == "seeds" else (others, groups)
        estimate = bootstrap(of_group[groups], *levels, rng())
        return estimate.high - estimate.low

    assert width(400) == pytest.approx(width(4), rel=0.1) and width(4) > 0.4


@pytest.mark.slow
def test_95_percent_of_intervals_hold_the_truth():
    """Two crossed levels of effects; with few groups a bootstrap is a little too sure."""
    covered = 0
    for trial in range(60):
        draw = rng(trial)
        effects = draw.normal(size=(10, 1)) + draw.normal(size=(1, 20))
        seeds, teams = (index.flatten() for index in np.indices(effects.shape))
        estimate = bootstrap(effects.flatten(), seeds, teams, draw)
        covered += estimate.low <= 0 <= estimate.high
    assert 52 <= covered <= 60


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        bootstrap([1.0, 2.0], [1], ["a", "b"], rng())
