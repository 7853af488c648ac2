"""Hindsight's pure functions: which states are candidates, which one is picked, and what counts as a hit."""

import pytest
import torch as th

from utils.subgoals import (
    active_units,
    candidate_steps,
    choose_candidate,
    q_sensitivity,
    signal_to_noise,
    skill,
    subgoal_hit_ratio,
)


def test_candidates_are_the_next_states_and_the_last_one_repeats_at_the_end():
    steps = candidate_steps(th.tensor([4, 2]), n_steps=4, horizon=3)
    assert steps[0].tolist() == [[1, 2, 3], [2, 3, 3], [3, 3, 3], [3, 3, 3]]
    assert steps[1].tolist() == [[1, 1, 1]] * 4


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("optimistic", 1), (True, 1), ("conservative", 2), (False, 2), (1, 0), (3, 2)],
)
def test_each_mode_picks_its_candidate(mode, expected):
    values = th.tensor([[[0.5, 2.0, -1.0]]])
    assert choose_candidate(values, mode).item() == expected


def test_random_mode_picks_every_candidate():
    choices = choose_candidate(th.zeros(400, 4), "random")
    assert sorted(set(choices.tolist())) == [0, 1, 2, 3]


def test_hit_ratio_of_the_papers_example():
    # states s1..s5; the subgoals of s1..s4 stand for s3, s1, s5, s5: {s3, s5} lie ahead, of five states
    nearest = th.tensor([[2, 0, 4, 4, -1]])
    assert subgoal_hit_ratio(nearest, th.tensor([5])).item() == pytest.approx(0.4)


def test_hit_ratio_counts_no_present_or_past_state_and_each_row_by_its_own_length():
    nearest = th.tensor([[0, 1, 2, -1], [1, 1, -1, -1]])
    assert subgoal_hit_ratio(nearest, th.tensor([4, 2])).tolist() == [0.0, 0.5]


def test_units_are_active_where_means_vary_more_than_they_spread():
    """Means -1, 1 (variance 1); 0, 1 (1/4); 5, 5 (0) against variances of 1/2 each."""
    mu = th.tensor([[[-1.0, 0.0, 5.0]], [[1.0, 1.0, 5.0]]])
    log_var = th.full_like(mu, 0.5).log()
    assert active_units(mu, log_var).item() == 1
    assert signal_to_noise(mu, log_var).item() == pytest.approx(1.25 / 1.5)


def test_skill_compares_with_the_present_state():
    present, picked = th.tensor([[0.0, 0.0], [1.0, 1.0]]), th.tensor([[2.0, 0.0], [1.0, 3.0]])
    assert skill(picked, present, picked).item() == 1
    assert skill(present, present, picked).item() == 0
    assert skill(th.tensor([[1.0, 0.0], [1.0, 1.0]]), present, picked).item() == pytest.approx(1 - 5 / 8)
    assert skill(th.tensor([[-2.0, 0.0], [1.0, 3.0]]), present, picked).item() == pytest.approx(1 - 16 / 8)


def test_sensitivity_is_how_far_values_move_over_their_spread_among_available_actions():
    """Row 1 moves by 1 and 3 with values 0 and 4 (a spread of 2); row 2 has a single action and does not count."""
    q = th.tensor([[[0.0, 4.0, 100.0]], [[7.0, 0.0, 0.0]]])
    exchanged = th.tensor([[[1.0, 1.0, -100.0]], [[9.0, 0.0, 0.0]]])
    avail = th.tensor([[[True, True, False]], [[True, False, False]]])
    assert q_sensitivity(q, exchanged, avail).item() == pytest.approx(2 / 2)
    assert q_sensitivity(q[1:], exchanged[1:], avail[1:]).item() == 0
