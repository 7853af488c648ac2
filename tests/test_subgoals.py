"""Hindsight's pure functions: which states are candidates, which one is picked, and what counts as a hit."""

import pytest
import torch as th

from utils.subgoals import candidate_steps, choose_candidate, subgoal_hit_ratio


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
