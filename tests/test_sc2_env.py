"""SMAC's environment on the embedded engine, method by method, and the vector environment around and beside it."""

import numpy as np
import pytest

from envs import REGISTRY
from envs.check import check_env, check_vector_env, random_actions
from envs.multiagentenv import Observations, Outcomes, WorkerLimits
from envs.sc2 import StarCraft2Env, resolve_engine
from envs.sc2.sim import env as sim
from envs.sc2.sim import smac
from envs.vector import SerialVectorEnv
from tests.scenes import ATTACK, EAST, NORTH, STOP, WEST, Scene
from utils.errors import UserError


def make(**env_args):
    env = smac.StarCraft2Env(**{"seed": 1, "map_name": "3m"} | env_args)
    env.reset()
    return env


def stop_or_rest(env) -> list[int]:
    """Nobody does anything: stop, or no-op for the dead."""
    return [int(np.argmax(avail)) for avail in env.get_avail_actions()]


def play_to_the_end(env) -> dict:
    terminated = False
    while not terminated:
        _, terminated, info = env.step(stop_or_rest(env))
    return info


# ------------------------------------------------------------------------------------------------ contract, engine


OF_PACKAGES = {"gymma": {"key": "rware:rware-tiny-2ag-v2"}, "pettingzoo": {"module": "mpe2.simple_spread_v3"}}


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_registered_environment_keeps_the_contract(name):
    env_args = OF_PACKAGES.get(name, {})

    def make_env():
        return REGISTRY[name](seed=1, **env_args)

    def make_vector():
        return REGISTRY[name].vector([1, 2, 3], **env_args)

    check_env(make_env(), n_episodes=2, make_env=make_env)
    check_vector_env(make_vector(), n_episodes=2, make_env=make_vector)


@pytest.mark.parametrize("map_name", ["3m", "5m_vs_6m"])
def test_the_embedded_engine_refuses_what_is_not_available(map_name):
    check_env(make(map_name=map_name), refuses_unavailable=True)


def test_auto_is_the_embedded_engine_where_there_is_no_game():
    assert resolve_engine("auto") == resolve_engine("sim") == "sim"
    assert isinstance(StarCraft2Env(engine="auto", seed=1), smac.StarCraft2Env)
    assert isinstance(StarCraft2Env.vector([1, 2], engine="sim", workers=WorkerLimits(5, 300)), sim.BattleVectorEnv)


@pytest.mark.parametrize(("engine", "says"), [("game", "engine=sim"), ("gmae", "one of auto, game, sim")])
def test_an_engine_that_cannot_be_had_is_a_users_mistake(engine, says):
    with pytest.raises(UserError, match=says):
        StarCraft2Env(engine=engine)


def test_an_unknown_map_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no map '4m'; it has 3m, 8m"):
        smac.StarCraft2Env(map_name="4m")


# ------------------------------------------------------------------------------------------------ steps


def test_an_unavailable_action_is_refused_and_changes_nothing():
    env = make()
    env.step([NORTH, EAST, STOP])
    before = env.battle.units.copy(), env.get_state(), env.battle.loops.copy(), env.battle.episode_steps.copy()
    with pytest.raises(ValueError, match=r"action 0 of agent 1 in battle 0 is not available; available are \[1, 2, 3"):
        env.step([NORTH, 0, NORTH])
    for array, now in zip(before, (env.battle.units, env.get_state(), env.battle.loops, env.battle.episode_steps)):
        assert np.array_equal(array, now)


@pytest.mark.parametrize("action", [-1, 9, 100])
@pytest.mark.parametrize("heuristic_ai", [False, True])
def test_an_action_that_does_not_exist_is_refused(action, heuristic_ai):
    env = make(heuristic_ai=heuristic_ai)
    with pytest.raises(ValueError, match=f"action {action} of agent 2"):
        env.step([STOP, STOP, action])


def test_the_last_actions_are_part_of_the_state():
    env = make()
    assert not env.get_state()[-27:].any()
    env.step([NORTH, EAST, STOP])
    assert np.array_equal(env.get_state()[-27:].reshape(3, 9), np.eye(9)[[NORTH, EAST, STOP]])
    env.reset()
    assert not env.get_state()[-27:].any()


@pytest.mark.parametrize("continuing_episode", [False, True])
def test_a_time_out_is_told_where_episodes_continue(continuing_episode):
    env = make(continuing_episode=continuing_episode)
    env.battle.units["acquires"] = 0  # no enemy ever shoots
    info = play_to_the_end(env)
    assert env.battle.episode_steps[0] == env.episode_limit == 60
    wanted = {"battle_won": False, "dead_allies": 0, "dead_enemies": 0}
    assert info == wanted | ({"episode_limit": True} if continuing_episode else {})


def test_info_counts_the_dead_and_tells_a_defeat():
    env = make()
    assert play_to_the_end(env) == {"battle_won": False, "dead_allies": 3, "dead_enemies": 0}


def test_stats_count_battles():
    env = make()
    assert env.get_stats() == {
        "battles_won": 0, "battles_game": 0, "battles_draw": 0, "win_rate": 0.0, "timeouts": 0, "restarts": 0,
    }  # fmt: skip
    play_to_the_end(env)
    env.reset()
    env.battle.units["health"][0, 3:] = 0
    _, terminated, info = env.step(stop_or_rest(env))
    assert terminated and info["battle_won"]
    stats = env.get_stats()
    assert (stats["battles_won"], stats["battles_game"], stats["win_rate"]) == (1, 2, 0.5)


def test_a_reset_in_the_middle_of_an_episode_starts_anew():
    env = make()
    for _ in range(5):
        env.step([NORTH] * 3)
    env.reset()
    assert env.battle.episode_steps[0] == 0
    assert (env.battle.units["health"] == 45).all()
    assert env.get_stats()["battles_game"] == 0


def test_what_is_handed_out_is_the_callers():
    env = make()
    obs, state = env.reset()
    kept = np.array(obs), state.copy()
    env.step([NORTH] * 3)
    assert np.array_equal(obs, kept[0]) and np.array_equal(state, kept[1])


def test_seed():
    assert make(seed=12).seed() == 12
    drawn = {smac.StarCraft2Env(map_name="3m").seed() for _ in range(2)}
    assert len(drawn) == 2


def test_the_visibility_matrix():
    env = make()
    units = env.battle.units[0]
    units["x"], units["y"] = [10, 12, 25, 18, 19, 20], 10
    units["health"][4] = 0
    #                                 agents               enemies
    assert env.get_visibility_matrix().tolist() == [
        [False, True, False, True, False, False],
        [True, False, False, True, False, True],
        [False, False, False, True, False, True],
    ]
    units["health"][1] = 0
    matrix = env.get_visibility_matrix()
    assert not matrix[1].any() and not matrix[:, 1].any()


# ------------------------------------------------------------------------------------------------ heuristic


def test_the_heuristic_attacks_the_nearest_and_overwrites_the_list():
    env = make(heuristic_ai=True)
    units = env.battle.units[0]
    units["x"], units["y"] = [9, 9, 9, 23, 23, 23], [14, 16, 18, 14, 16, 18]
    actions = [STOP, STOP, STOP]
    env.step(actions)
    assert actions == [ATTACK, ATTACK + 1, ATTACK + 2]
    assert units["order"][:3].tolist() == [sim.dynamics.ATTACK] * 3
    assert env.battle.last_actions[0].tolist() == [STOP] * 3  # what the caller gave


def test_the_heuristic_keeps_its_target_until_it_is_dead():
    scene = Scene([(10, 10)], [(20, 10), (30, 10)], heuristic_ai=True)
    scene.enemies["acquires"] = 0
    scene.step(STOP)
    scene.enemies["x"] = 30, 12
    scene.step(STOP)
    assert scene.allies["target"][0] == 1
    scene.enemies["health"][0] = 0
    scene.step(STOP)
    assert scene.allies["target"][0] == 2


def test_the_heuristic_wins_battles_of_its_own():
    env = make(heuristic_ai=True)
    for _ in range(20):
        env.reset()
        play_to_the_end(env)
    assert 0 < env.get_stats()["battles_won"] <= env.get_stats()["battles_game"] == 20


@pytest.mark.parametrize(
    ("enemy", "action"), [((20, 13), EAST), ((1, 12), WEST), ((12, 20), NORTH), ((15, 10), ATTACK)]
)
def test_the_heuristic_at_rest_walks_until_its_target_is_in_range(enemy, action):
    scene = Scene([(10, 10)], [enemy], heuristic_ai=True, heuristic_rest=True)
    scene.step(STOP)
    assert scene.battle._commands[0, 0] == action


# ------------------------------------------------------------------------------------------------ vectors


@pytest.mark.parametrize("map_name", ["3m", "5m_vs_6m"])
def test_worlds_in_turn_equal_worlds_together(map_name):
    seeds, env_args = [4, 5, 6], {"map_name": map_name, "continuing_episode": True}
    in_turn = SerialVectorEnv([smac.StarCraft2Env(seed=seed, **env_args) for seed in seeds])
    together = smac.StarCraft2Env.vector(seeds, **env_args)
    assert in_turn.get_env_info() == together.get_env_info()
    envs = (in_turn, together)
    seen = [Observations.empty(3, together.get_env_info()) for _ in envs]
    outcomes = [Outcomes.empty(3, together.info_keys) for _ in envs]
    rng = np.random.default_rng(0)
    for env, observations in zip(envs, seen):
        env.reset(observations)
    for _ in range(150):
        actions = random_actions(seen[0].avail_actions, rng)
        for env, observations, outcome in zip(envs, seen, outcomes):
            env.step(actions, observations, outcome)
        for array, other in zip((*seen[0], *outcomes[0][:3]), (*seen[1], *outcomes[1][:3])):
            np.testing.assert_array_equal(array, other)
        for key in together.info_keys:
            np.testing.assert_array_equal(outcomes[0].info[key], outcomes[1].info[key])
        over = outcomes[0].terminated | outcomes[0].truncated
        for env, observations in zip(envs, seen):
            env.reset(observations, over)
    assert in_turn.get_stats() == together.get_stats()
    assert together.get_stats()[0]["battles_game"] > 0


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="enemy_list"):
        smac.StarCraft2Env(map_name="3m", rules={"spawn_latice": "greedy"})
