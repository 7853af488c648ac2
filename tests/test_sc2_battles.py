"""What holds in whole battles of the embedded engine: on every map, for every seed, batch and number of threads.

Scenes of single rules are in `test_sc2_dynamics.py`.
"""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import caching

from envs.check import check_vector_env, random_actions
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim import dynamics, features, heuristic, jit, records
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.units import BIOLOGICAL
from tests.scenes import RECORDS_UNCOMPILED, STOP, draw, largest_overlap
from utils.jit import sources_stamp, warn_without_cache
from utils.logging import LOGGER_NAME

ROOT = Path(__file__).resolve().parent.parent
OVERLAP = 0.0625 + 3 / 16  # the game lets units overlap by so much; and one may run into who was stopped, by a step
EVERYTHING = {
    "obs_last_action": True,
    "obs_pathing_grid": True,
    "obs_terrain_height": True,
    "obs_timestep_number": True,
    "obs_instead_of_state": True,
    "state_timestep_number": True,
    "reward_only_positive": False,
    "reward_scale": False,
    "move_amount": 3,
}
NOTHING = {
    "obs_all_health": False,
    "obs_own_health": False,
    "state_last_action": False,
    "reward_sparse": True,
}


def play(
    seeds: list[int], n_steps: int, map_name: str = "3m", **env_args: Any
) -> Iterator[tuple[BattleVectorEnv, Observations]]:
    """The environment and what is seen in it, after its reset and after each step. Every battle's actions follow from
    its own seed, and a new episode starts where one is over."""
    env = BattleVectorEnv(seeds, map_name=map_name, **env_args)
    seen, outcomes = Observations.empty(env.n_envs, env.get_env_info()), Outcomes.empty(env.n_envs, env.info_keys)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    env.reset(seen)
    yield env, seen
    for _ in range(n_steps):
        actions = np.array([random_actions(avail, rng) for avail, rng in zip(seen.avail_actions, rngs)])
        env.step(actions, seen, outcomes)
        yield env, seen
        over = outcomes.terminated | outcomes.truncated
        if over.any():
            env.reset(seen, over)


def final_units(*args: Any, **kwargs: Any) -> np.ndarray:
    *_, (env, _) = play(*args, **kwargs)
    return env.units


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "n_battles"), [(EVERYTHING, 15), (NOTHING, 185)], ids=["everything seen", "little seen"]
)
@pytest.mark.parametrize("map_name", MAP_NAMES)
def test_two_hundred_random_episodes_keep_the_contract(map_name, options, n_battles):
    check_vector_env(BattleVectorEnv(range(n_battles), map_name=map_name, **options), n_episodes=1)


@pytest.mark.parametrize("map_name", MAP_NAMES)
def test_a_long_random_history_breaks_no_law(map_name):
    before = None
    for env, _ in play([1, 2], 200, map_name=map_name):
        assert_lawful(env)
        if before is not None:
            same_episode = env.episode_steps > 1
            assert_lawful_change(before[same_episode], env.units[same_episode], env.types)
        before = env.units.copy()


def assert_lawful(env: BattleVectorEnv) -> None:
    units, types = env.units, env.types[env.units["type"]]
    assert np.isfinite([units[name] for name in ("x", "y", "health", "shield", "cooldown", "energy")]).all()
    may_stand = env.map.grid[units["x"].astype(int), units["y"].astype(int)] >> types["layer"] & 1
    assert may_stand.all(), "a unit is where its layer may not be"
    assert all(largest_overlap(units[b], types["layer"][b]) < OVERLAP for b in range(env.n_envs))
    for name, most in (("health", "health"), ("shield", "shield"), ("energy", "energy_max")):
        assert (units[name] >= 0).all() and (units[name] <= types[most]).all(), name
    assert (units["cooldown"] > -8).all()  # below 0: while a wind-up runs, and the rest of a loop
    assert (env.n_effects >= 0).all() and (env.n_effects < env.effects.shape[1]).all()
    assert env._avail_actions.any(-1).all()


def assert_lawful_change(before: np.ndarray, units: np.ndarray, type_table: np.ndarray) -> None:
    """Of units [battle, unit] in one step: health rises only where it regenerates or a medivac may have healed it."""
    types, was_alive = type_table[units["type"]], before["health"] > 0
    healed = np.zeros(units.shape, bool)
    for team in (0, 1):
        ours = units["team"] == team
        healed |= ours & (ours & was_alive & (units["heals"] == 1)).any(1, keepdims=True)
    healed &= types["attributes"] & BIOLOGICAL > 0
    rise = 8 * (types["health_regeneration"] + healed * 9 / 16) + 1e-9
    assert (units["health"] - before["health"] <= rise)[was_alive].all(), "somebody was healed"
    assert (units["shield"] - before["shield"] <= 8 * 0.125)[was_alive].all(), "a shield regenerated too fast"
    assert (units["health"] == 0)[~was_alive].all(), "somebody rose from the dead"
    for name in ("x", "y"):
        assert (units[name] == before[name])[~was_alive].all(), "a dead unit moved"


def test_equal_seeds_give_equal_battles_and_other_seeds_other_ones():
    first, again = final_units([7], 100), final_units([7], 100)
    assert np.array_equal(first, again)
    rngs_alike = {"heuristic_ai": True}  # the agents do the same, whatever the seed
    assert not np.array_equal(
        final_units([7], 12, **rngs_alike)["health"], final_units([8], 12, **rngs_alike)["health"]
    )


@pytest.mark.parametrize("map_name", ["5m_vs_6m", "MMM", "1c3s5z", "2m_vs_1z"])
def test_a_battle_of_a_batch_is_that_battle_alone(map_name):
    batch = final_units([3, 4, 5], 100, map_name=map_name)
    for b, seed in enumerate((3, 4, 5)):
        assert np.array_equal(batch[b], final_units([seed], 100, map_name=map_name)[0])


@pytest.mark.slow
@pytest.mark.parametrize("map_name", ["3m", "MMM", "1c3s5z", "so_many_baneling"])
def test_threads_change_nothing(map_name):
    *_, (env, seen) = play(list(range(8)), 40, map_name)
    *_, (threaded_env, threaded_seen) = play(list(range(8)), 40, map_name, n_threads=2)
    assert threaded_env._goes_parallel(np.ones(8, bool)) and not env._goes_parallel(np.ones(8, bool))
    assert np.array_equal(env.units, threaded_env.units)
    assert all(map(np.array_equal, seen, threaded_seen)) and seen.obs.any()


def test_threads_have_a_compilation_of_their_own():
    kernels = (dynamics.advance, dynamics.advance_parallel, features.observe, features.observe_parallel)
    assert len({kernel._cache._cache_file._index_path for kernel in kernels}) == 4


def test_compiled_code_is_stale_as_soon_as_any_file_of_the_engine_changes(tmp_path):
    """Numba itself would go on using what it compiled from an older file of a function that is called."""
    for kernel in (dynamics.advance, features.observe, heuristic.choose_actions):
        assert kernel._cache._cache_file._source_stamp == jit.STAMP
    copied = tmp_path / "sim"
    shutil.copytree(jit.FOLDER, copied, ignore=shutil.ignore_patterns("__pycache__"))
    assert sources_stamp(copied) == jit.STAMP
    for path in (copied / "weapons.py", copied / "smacv2" / "features.py"):
        path.write_text("MIN_DAMAGE = 1\n")
        assert (stamp := sources_stamp(copied)) != jit.STAMP
        shutil.copy(jit.FOLDER / path.relative_to(copied), path)
        assert stamp != sources_stamp(copied) == jit.STAMP


@pytest.mark.parametrize("reason", ["no folder", "a full disk", "a torn file"])
def test_code_is_compiled_where_it_cannot_be_kept_and_that_is_said_once(reason, monkeypatch, caplog):
    def refuse(*_):
        raise EOFError if reason == "a torn file" else OSError(errno.ENOSPC, "No space left on device")

    if reason == "no folder":
        monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    else:
        monkeypatch.setattr(caching.IndexDataCacheFile, "save" if reason == "a full disk" else "load", refuse)
        monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", lambda *_: None)
        monkeypatch.setattr(caching.IndexDataCacheFile, "_save_index", lambda *_: None)
    monkeypatch.setattr(logging.getLogger(LOGGER_NAME), "propagate", True)
    caplog.set_level("WARNING", LOGGER_NAME)  # whatever a test before has set
    warn_without_cache.cache_clear()
    for i in range(2):
        assert jit.compiled(lambda number, i=i: number + 1)(i) == i + 1
    (message,) = set(caplog.messages)
    assert "NUMBA_CACHE_DIR" in message
    warn_without_cache.cache_clear()


def test_the_engine_is_imported_where_neither_its_folder_nor_home_takes_files(tmp_path):
    for package in ("envs", "utils"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "envs" / "sc2" / "sim" / "__pycache__").write_text("")
    command = [sys.executable, "-c", "import envs.sc2.sim.features"]
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"} | {"HOME": os.devnull}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and result.stderr.count("\n") == 1 and "NUMBA_CACHE_DIR" in result.stderr


def test_battles_outside_the_mask_stand_still():
    *_, (env, _) = play([1, 2, 3], 12)
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


ALL_TYPES = """
    .......X........
    ..l.h..X...B.L..
    ...z..c...C..Z..
    .d..b..X.S.R.H.D
    ..m.r..X..M..P..
    ...s...X........
"""
UNCOMPILED = f"""
import json
import numpy as np
from envs.sc2.sim.env import BattleVectorEnv
from tests.test_sc2_battles import numbers

{RECORDS_UNCOMPILED}print(json.dumps(numbers()))
"""


def numbers() -> list[list[float]]:
    """Every number of the records, and of what is seen, after each step of a short battle of all unit types."""
    scene = draw(ALL_TYPES, enemy_goal=(3, 2), heuristic_ai=True)
    scene.allies["health"] /= 3
    scene.enemies["health"] /= 3
    history = []
    for _ in range(10):
        reward = scene.step(*[STOP] * 9)
        fields = [np.ravel(scene.units[name]).tolist() for name in records.UNIT.names if name != "random"]
        arrays = [*fields, *(np.ravel(array).tolist() for array in scene.seen), [reward]]
        history.append([value for array in arrays for value in array])
    return history


@pytest.mark.slow
def test_compiled_code_does_what_the_source_says():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "ignore", "-c", UNCOMPILED]  # the random generator wraps around
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    compiled = np.array(numbers())
    np.testing.assert_allclose(np.array(json.loads(result.stdout)), compiled, atol=1e-9)
    n_units = 19
    healths = compiled[:, records.UNIT.names.index("health") * n_units :][:, :n_units]
    assert (healths[-1] == 0).sum() >= 5, "few have fallen: the comparison shows little"
    assert (np.diff(healths, axis=0) > 0.5).any(), "nobody was healed"
