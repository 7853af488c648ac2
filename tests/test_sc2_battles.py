"""What holds in whole battles of the embedded engine: on every map, for every seed, batch and number of threads.

Scenes of single rules are in `test_sc2_dynamics.py`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.check import check_vector_env, random_actions
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim import dynamics
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES

ROOT = Path(__file__).resolve().parent.parent
OVERLAP = 0.01  # that is tolerated; a marine is 0.75 wide
EVERYTHING = {
    "obs_last_action": True,
    "obs_pathing_grid": True,
    "obs_terrain_height": True,
    "obs_timestep_number": True,
    "state_timestep_number": True,
    "reward_only_positive": False,
    "reward_scale": False,
    "move_amount": 3,
}
NOTHING = {
    "obs_all_health": False,
    "obs_own_health": False,
    "obs_instead_of_state": True,
    "state_last_action": False,
    "reward_sparse": True,
}


def play(seeds: list[int], n_steps: int, map_name: str = "3m", **env_args: Any) -> Iterator[BattleVectorEnv]:
    """The environment after its reset and after each step. Every battle's actions follow from its own seed, and a new
    episode starts where one is over."""
    env = BattleVectorEnv(seeds, map_name=map_name, **env_args)
    seen, outcomes = Observations.empty(env.n_envs, env.get_env_info()), Outcomes.empty(env.n_envs, env.info_keys)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    env.reset(seen)
    yield env
    for _ in range(n_steps):
        actions = np.array([random_actions(avail, rng) for avail, rng in zip(seen.avail_actions, rngs)])
        env.step(actions, seen, outcomes)
        yield env
        over = outcomes.terminated | outcomes.truncated
        if over.any():
            env.reset(seen, over)


def final_units(*args: Any, **kwargs: Any) -> np.ndarray:
    *_, env = play(*args, **kwargs)
    return env.units


def largest_overlap(units: np.ndarray) -> float:
    """By how much two living units of one battle are nearer to each other than the sum of their radii."""
    units = units[units["health"] > 0]
    x, y, radius = units["x"], units["y"], units["separation_radius"]
    first, second = np.triu_indices(len(units), 1)
    gap = np.hypot(x[first] - x[second], y[first] - y[second]) - radius[first] - radius[second]
    return float(-gap.min(initial=0))


@pytest.mark.parametrize("options", [EVERYTHING, NOTHING], ids=["everything", "nothing"])
@pytest.mark.parametrize("map_name", MAP_NAMES)
def test_thirty_random_episodes_keep_the_contract(map_name, options):
    check_vector_env(BattleVectorEnv(range(30), map_name=map_name, **options), n_episodes=1)


@pytest.mark.parametrize("map_name", MAP_NAMES)
def test_a_long_random_history_breaks_no_law(map_name):
    before = None
    for env in play([1, 2], 200, map_name=map_name):
        units, alive = env.units, env.units["health"] > 0
        assert np.isfinite([units[name] for name in ("x", "y", "health", "shield", "cooldown")]).all()
        assert env.map.pathing[units["x"].astype(int), units["y"].astype(int)].all(), "a unit left the ground"
        assert all(largest_overlap(units[b]) < OVERLAP for b in range(env.n_envs))
        assert (units["cooldown"] >= 0).all() and (units["shield"] >= 0).all()
        if before is not None:
            same_episode = env.episode_steps > 1
            assert (units["health"] <= before["health"])[same_episode].all(), "somebody was healed"
            moved = (units["x"] != before["x"]) | (units["y"] != before["y"])
            assert not (moved & ~alive & (before["health"] <= 0))[same_episode].any(), "a dead unit moved"
        before = units.copy()


def test_equal_seeds_give_equal_battles_and_other_seeds_other_ones():
    first, again = final_units([7], 100), final_units([7], 100)
    assert np.array_equal(first, again)
    rngs_alike = {"heuristic_ai": True}  # the agents do the same, whatever the seed
    assert not np.array_equal(
        final_units([7], 12, **rngs_alike)["health"], final_units([8], 12, **rngs_alike)["health"]
    )


def test_a_battle_of_a_batch_is_that_battle_alone():
    batch = final_units([3, 4, 5], 100, map_name="5m_vs_6m")
    for b, seed in enumerate((3, 4, 5)):
        assert np.array_equal(batch[b], final_units([seed], 100, map_name="5m_vs_6m")[0])


def test_threads_change_nothing():
    seeds = list(range(8))
    assert np.array_equal(final_units(seeds, 60), final_units(seeds, 60, n_threads=2))


def test_threads_have_a_compilation_of_their_own():
    paths = [loops._cache._cache_file._index_path for loops in (dynamics.advance, dynamics.advance_parallel)]
    assert paths[0] != paths[1]


def test_battles_outside_the_mask_stand_still():
    *_, env = play([1, 2, 3], 12)
    seen, outcomes = Observations.empty(3, env.get_env_info()), Outcomes.empty(3, env.info_keys)
    fields = ("units", "loops", "episode_steps", "last_actions", "result", "_sequences", "_random", "_previous")
    before = {name: getattr(env, name).copy() for name in fields}
    actions = env._avail_actions.argmax(-1)
    env.step(actions, seen, outcomes, np.array([False, True, False]))
    env.reset(seen, np.array([False, False, True]))
    for name in fields:
        assert np.array_equal(getattr(env, name)[0], before[name][0]), name
    assert (env.loops[1:] != before["loops"][1:]).all()
    assert not any(array[0].any() for array in (*seen, outcomes.reward))


UNCOMPILED = """
import json, sys
import numpy as np
from tests.test_sc2_battles import numbers, play

def records(env):  # uncompiled code reads the fields of records as attributes
    env.units, env.types = env.units.view(np.recarray), env.types.view(np.recarray)

print(json.dumps(numbers(12, prepare=records)))
"""


def numbers(n_steps: int, prepare: Any = lambda env: None) -> list[list[float]]:
    """Every number of the records, and of what is seen, after each step of a short battle that is fought out."""
    env = BattleVectorEnv([5], map_name="3m", heuristic_ai=True)
    prepare(env)
    seen, outcomes = Observations.empty(1, env.get_env_info()), Outcomes.empty(1, env.info_keys)
    env.reset(seen)
    history = []
    for _ in range(n_steps):
        env.step(np.ones((1, 3), int), seen, outcomes)
        fields = [np.ravel(env.units[name]).tolist() for name in dynamics.UNIT.names if name != "random"]
        arrays = [*fields, *(np.ravel(array).tolist() for array in seen), outcomes.reward.tolist()]
        history.append([value for array in arrays for value in array])
    return history


def test_compiled_code_does_what_the_source_says():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "ignore:overflow", "-c", UNCOMPILED]  # the random generator wraps around
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    compiled = np.array(numbers(12))
    np.testing.assert_allclose(np.array(json.loads(result.stdout)), compiled, atol=1e-9)
    healths = compiled[:, list(dynamics.UNIT.names).index("health") * 6 :][:, :6]
    assert healths[-1].sum() < 6 * 45, "nobody was hurt: the comparison shows little"
