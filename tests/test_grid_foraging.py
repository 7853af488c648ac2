"""The grid of foods: who moves where, who gets what, what is seen, and when it ends."""

import numpy as np
import pytest

from envs.check import check_env, check_vector_env
from envs.grid_foraging import PICK_UP, GridForaging
from envs.grid_foraging_worlds import GridForagingWorlds
from envs.multiagentenv import Observations, Outcomes
from envs.vector import SerialVectorEnv
from utils.errors import UserError

NORTH, SOUTH, WEST, EAST = range(4)


def placed(players, foods, **env_args):
    """A world whose players and foods stand at these cells (x, y)."""
    env = GridForaging(common_reward=False, players=len(players), foods=len(foods), **env_args)
    env.players, env.foods = list(players), list(foods)
    return env


@pytest.mark.parametrize("common_reward", [True, False])
def test_it_keeps_the_contract_of_environments(common_reward):
    def world():
        return GridForaging(common_reward=common_reward, seed=1)

    check_env(world(), make_env=world, refuses_unavailable=True)


def test_moves_go_their_way_and_end_at_the_edge():
    env = placed([(0, 0), (7, 7)], [(4, 4)])
    assert env.get_avail_actions() == [[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]]
    env.step([NORTH, WEST])
    assert env.players == [(0, 1), (6, 7)]
    env.step([EAST, SOUTH])
    assert env.players == [(1, 1), (6, 6)]
    with pytest.raises(ValueError, match="not all available"):
        placed([(0, 0)], [(4, 4)]).step([SOUTH])


def test_a_food_is_its_finders_and_shared_by_those_who_pick_it_up_together():
    env = placed([(1, 1), (1, 1), (5, 5)], [(1, 1), (5, 5)], food_value=4.0)
    rewards, is_over, info = env.step([PICK_UP, PICK_UP, WEST])
    assert (rewards, is_over, info["food_picked"]) == ([2.0, 2.0, 0.0], False, 0.5)
    assert env.step([PICK_UP, PICK_UP, EAST])[0] == [0, 0, 0]  # it is gone
    rewards, is_over, info = env.step([EAST, EAST, PICK_UP])
    assert (rewards, is_over, info["episode_limit"]) == ([0, 0, 4.0], True, False)


def test_the_teams_reward_is_the_sum():
    env = GridForaging(players=2, foods=2)
    env.players, env.foods = [(0, 0), (3, 3)], [(0, 0), (3, 3)]
    assert env.step([PICK_UP, PICK_UP])[:2] == (8.0, True)


def test_the_time_limit_cuts_off():
    env = placed([(0, 0)], [(4, 4)], max_episode_steps=2)
    assert env.step([PICK_UP])[1] is False
    _, is_over, info = env.step([PICK_UP])
    assert is_over and info["episode_limit"]


def test_a_player_sees_places_from_where_it_stands_and_nothing_of_what_is_gone():
    env = placed([(0, 4), (2, 2)], [(4, 4), (2, 2)])
    env.step([NORTH, PICK_UP])
    place, distances = env.get_obs()[0][:16].reshape(2, 8), env.get_obs()[0][16:].reshape(3, 2, 15)
    assert place.argmax(1).tolist() == [0, 5]
    assert (distances[:2].argmax(2) - 7).tolist() == [[2, -3], [4, -1]]  # of the other player, of the first food
    assert distances[:2].sum() == 4 and not distances[2].any()
    assert env.get_state().tolist() == [*env.get_obs()[0], *env.get_obs()[1]]


def test_everything_starts_on_a_cell_of_its_own_and_a_seed_repeats_it():
    first, second = (GridForaging(seed=5, field_size=3, foods=7) for _ in range(2))
    for _ in range(20):
        first.reset(), second.reset()
        cells = {*first.players, *first.foods}
        assert len(cells) == 9
        assert first.players == second.players and first.foods == second.foods
    with pytest.raises(UserError, match="field_size=3 has no room for 2 players and 8 foods"):
        GridForaging(field_size=3, foods=8)


@pytest.mark.parametrize("common_reward", [True, False])
@pytest.mark.parametrize("sizes", [{"field_size": 5}, {"players": 1, "foods": 1, "field_size": 3}, {"players": 4}])
def test_worlds_played_together_are_the_worlds_played_alone(common_reward, sizes):
    args = {"common_reward": common_reward, "max_episode_steps": 60, "food_value": 0.7, "field_size": 4} | sizes
    together = GridForaging.vector(range(5), **args)
    alone = SerialVectorEnv([GridForaging(seed=seed, **args) for seed in range(5)])
    info = together.get_env_info()
    assert type(together) is GridForagingWorlds and info == alone.get_env_info()
    answers = [(Observations.empty(5, info), Outcomes.empty(5, env.info_keys, info)) for env in (together, alone)]
    (seen, brought), (own_seen, own_brought) = answers
    rng, waiting = np.random.default_rng(0), np.ones(5, bool)
    ends = set()
    for _ in range(400):
        played = ~waiting & (rng.random(5) < 0.8)
        actions = (rng.random(seen.avail_actions.shape) * (seen.avail_actions > 0)).argmax(2)
        for env, answer in zip((together, alone), answers):
            env.reset(answer[0], waiting)
            env.step(actions, *answer, played)
        for ours, of_each in zip((*seen, *brought[:3]), (*own_seen, *own_brought[:3])):
            np.testing.assert_array_equal(ours, of_each)
        np.testing.assert_array_equal(brought.info["food_picked"], own_brought.info["food_picked"])
        waiting = played & (brought.terminated | brought.truncated)
        ends |= set(brought.terminated[waiting].tolist())
    assert ends == {True, False} and together.state_dict() == alone.state_dict()


def test_worlds_played_together_keep_the_contract():
    def worlds():
        return GridForaging.vector(range(3), common_reward=False, max_episode_steps=20)

    check_vector_env(worlds(), make_env=worlds)


def test_a_class_with_rules_of_its_own_plays_by_them():
    class NobodyFinds(GridForaging):
        def step(self, actions):
            return 0.0, *super().step(actions)[1:]

    assert type(NobodyFinds.vector([1])) is SerialVectorEnv
