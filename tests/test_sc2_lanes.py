"""Vectors of eight numbers in compiled code: what they compute is what numpy does."""

import numpy as np
import pytest

from envs.sc2.sim.jit import compiled
from envs.sc2.sim.lanes import LANES, bits, lanes


@compiled
def near(rows, k, x, y, team):
    from_x, from_y = lanes(rows, 0, k) - x, lanes(rows, 1, k) - y
    return bits((from_x * from_x + from_y * from_y < lanes(rows, 2, k) + 1) & (lanes(rows, 3, k) != team))


@compiled
def ahead_or_low(rows, k, number):
    return bits((lanes(rows, 0, k) * number > 0) | (number < lanes(rows, 1, k)))


@pytest.mark.parametrize("k", [0, LANES, 2 * LANES])
def test_bit_k_of_a_comparison_is_lane_k(k):
    rows = np.random.default_rng(k).normal(size=(4, 3 * LANES))
    rows[3] = np.arange(3 * LANES) % 3
    x, y, radius, team = rows[:, k : k + LANES]
    is_near = ((x - 0.5) * (x - 0.5) + (y + 0.25) * (y + 0.25) < radius + 1) & (team != 1)
    assert near(rows, k, 0.5, -0.25, 1) == np.packbits(is_near, bitorder="little")[0]
    assert is_near.any() and not is_near.all()
    either = (x * -2 > 0) | (y > -2)
    assert ahead_or_low(rows, k, -2) == np.packbits(either, bitorder="little")[0]


@pytest.mark.parametrize("lane", range(LANES))
def test_one_lane_is_one_bit(lane):
    rows = np.full((4, LANES), 9.0)
    rows[:2, lane] = 0
    assert near(rows, 0, 0, 0, 7) == 1 << lane


def test_what_is_no_number_is_not_less_and_differs():
    rows = np.full((4, LANES), np.nan)
    assert near(rows, 0, 0, 0, 7) == 0
    assert ahead_or_low(rows, 0, 1) == 0
