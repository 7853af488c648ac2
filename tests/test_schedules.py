"""Schedules of epsilon."""

import math

import pytest

from components.epsilon_schedules import DecayThenFlatSchedule


@pytest.mark.parametrize("t, epsilon", [(0, 1.0), (12_500, 0.7625), (25_000, 0.525), (50_000, 0.05), (10**7, 0.05)])
def test_linear_decay_then_flat(t, epsilon):
    assert DecayThenFlatSchedule(1.0, 0.05, 50_000).eval(t) == pytest.approx(epsilon)


def test_exponential_decay_then_flat():
    schedule = DecayThenFlatSchedule(1.0, 0.01, 1000, decay="exp")
    assert schedule.eval(0) == 1.0
    assert schedule.eval(500) == pytest.approx(math.sqrt(0.01))
    assert schedule.eval(1000) == pytest.approx(0.01)
    assert schedule.eval(5000) == 0.01


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1.0, 0.1, 100, "cosine"), "'linear' or 'exp', not 'cosine'"),
        ((1.0, 0.1, 0), "must be positive, not 0"),
        ((1.0, 0.0, 100, "exp"), "finish must be positive"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DecayThenFlatSchedule(*arguments)
