"""The engine on its own: the wheel, SMAC's loop by one changed import, PettingZoo's and Gymnasium's own checks."""

import json
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

import main
from smac_engine import BattleVectorEnv, StarCraft2Env, parallel_env
from tests.test_open_envs import pettingzoo as as_team_of_pettingzoo

RANDOM_AGENTS = """
from smac_engine import StarCraft2Env  # the changed line: from smac.env import StarCraft2Env
import numpy as np

def main():
    env = StarCraft2Env(map_name="3m")
    env_info = env.get_env_info()
    n_agents = env_info["n_agents"]
    for _ in range(2):
        env.reset()
        terminated, episode_reward = False, 0
        while not terminated:
            obs, state = env.get_obs(), env.get_state()
            actions = []
            for agent_id in range(n_agents):
                avail_actions = env.get_avail_agent_actions(agent_id)
                actions.append(np.random.choice(np.nonzero(avail_actions)[0]))
            reward, terminated, _ = env.step(actions)
            episode_reward += reward
        assert len(obs) == n_agents and state.shape == (env_info["state_shape"],) and episode_reward >= 0
    env.close()

main()
"""
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"yaml", "torch", "gymnasium", "pettingzoo", "PIL", "sacred", "envs", "utils", "main"}:
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel installs, and no more."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    sources.mkdir()
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(main.ROOT / name, sources)
    for name in ("envs", "utils", "smac_engine"):
        shutil.copytree(main.ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        sources,
    ]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("smac_engine-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "lib")
    return folder / "lib"


def run_with(installed, code, alone=""):
    path = f"import sys\nsys.path.insert(0, {str(installed)!r})\n"
    command = [sys.executable, "-I", "-W", "ignore", "-c", path + alone + code]
    finished = subprocess.run(command, cwd=installed.parent, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_smacs_random_agents_play_on_the_wheel_with_numpy_and_numba_alone(installed):
    assert {path.name for path in installed.iterdir() if path.is_dir() and "info" not in path.name} == {"smac_engine"}
    run_with(installed, RANDOM_AGENTS, ALONE)


@pytest.mark.slow
def test_the_wheel_plays_battles_as_the_checkout_does(installed):
    code = (
        "from smac_engine import StarCraft2Env\nenv = StarCraft2Env('3m', seed=3)\nenv.reset()\n"
        "for _ in range(5): env.step([row.index(1) for row in env.get_avail_actions()])\n"
        "print(env.get_state().tolist())"
    )
    env = StarCraft2Env("3m", seed=3)
    env.reset()
    for _ in range(5):
        env.step([row.index(1) for row in env.get_avail_actions()])
    assert np.array_equal(np.array(json.loads(run_with(installed, code)), np.float32), env.get_state())


@pytest.mark.slow
def test_the_wheel_has_smacv2_under_its_own_name_with_numpy_and_numba_alone(installed):
    code = (
        "from smac_engine.smacv2 import StarCraftCapabilityEnvWrapper\n"
        "env = StarCraftCapabilityEnvWrapper(map_name='zerg_5_vs_5', seed=3)\nobs, state = env.reset()\n"
        "over = False\n"
        "while not over: _, over, info = env.step([row.index(1) for row in env.get_avail_actions()])\n"
        "assert len(obs) == 5 and 'battle_won' in info\n"
    )
    run_with(installed, code, ALONE)


@pytest.mark.slow
def test_the_wheel_has_pettingzoos_and_gymnasiums_interfaces(installed):
    pytest.importorskip("pettingzoo")
    code = (
        "from smac_engine import parallel_env\nfrom smac_engine.gymnasium_env import BattleVector\n"
        "env = parallel_env('3m')\nassert len(env.reset(seed=1)[0]) == 3\n"
        "worlds = BattleVector('3m', 4)\nassert worlds.reset(seed=1)[0]['obs'].shape[:2] == (4, 3)\n"
    )
    run_with(installed, code)


# --- PettingZoo


def test_the_parallel_env_passes_pettingzoos_tests():
    pytest.importorskip("pettingzoo")
    from pettingzoo.test import parallel_api_test, seed_test
    from pettingzoo.utils import parallel_to_aec

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(parallel_env("3m"), num_cycles=200)
        seed_test(lambda: parallel_to_aec(parallel_env("3m")), num_cycles=50)


def test_the_parallel_env_is_the_battle_of_the_same_seed():
    pytest.importorskip("pettingzoo")
    env, battle = parallel_env("2s3z"), StarCraft2Env("2s3z", seed=5)
    obs, _ = env.reset(seed=5)
    battle.reset()
    over, rng = False, np.random.default_rng(0)
    while not over:
        masks = np.array(battle.get_avail_actions())
        assert np.array_equal([seen["action_mask"] for seen in obs.values()], masks)
        assert np.array_equal([seen["observation"] for seen in obs.values()], battle.get_obs())
        assert np.array_equal(env.state(), battle.get_state())
        actions = [int(rng.choice(np.flatnonzero(mask))) for mask in masks]
        reward, over, info = battle.step(actions)
        obs, rewards, terminated, truncated, infos = env.step(dict(zip(env.agents, actions)))
        assert set(rewards.values()) == {reward} and infos["agent_0"]["battle_won"] == info["battle_won"]
        assert all(terminated[name] != truncated[name] if over else not terminated[name] for name in rewards)
    assert env.agents == []


def test_an_action_that_is_missing_or_not_available_is_refused():
    pytest.importorskip("pettingzoo")
    env = parallel_env("3m")
    with pytest.raises(ValueError, match="call reset"):
        env.step({})
    env.reset(seed=1)
    with pytest.raises(ValueError, match="agent_1, agent_2 have none"):
        env.step({"agent_0": 1})
    with pytest.raises(ValueError, match="action 0 of agent 0"):
        env.step(dict.fromkeys(env.agents, 0))


def test_this_frameworks_own_pettingzoo_environment_takes_it():
    pytest.importorskip("pettingzoo")
    env = as_team_of_pettingzoo(module="smac_engine", map_name="3m", time_limit=60)
    env.reset()
    own = StarCraft2Env("3m")
    assert (env.n_agents, env.get_obs_size(), env.n_actions) == (3, own.get_obs_size(), own.n_actions)
    assert env.get_avail_actions()[0][0] == 0


# --- Gymnasium


def test_a_battle_passes_gymnasiums_checker():
    pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    from smac_engine.gymnasium_env import Battle

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity.*")
        warnings.filterwarnings("ignore", message=".*not within.*spec.*")
        check_env(Battle("3m", render_mode="rgb_array"), skip_render_check=True)


def test_many_battles_are_those_that_each_would_be_alone():
    pytest.importorskip("gymnasium")
    from smac_engine.gymnasium_env import Battle, BattleVector

    worlds, alone = BattleVector("3m", 3), [Battle("3m") for _ in range(3)]
    seen, _ = worlds.reset(seed=7)
    starts = [battle.reset(seed=7 + i)[0] for i, battle in enumerate(alone)]
    assert worlds.observation_space.contains(seen)
    rng, over, ended = np.random.default_rng(0), [False] * 3, 0
    for _ in range(80):
        for i, start in enumerate(starts):
            assert all(np.array_equal(seen[name][i], start[name]) for name in start)
        actions = worlds.action_space.sample() if rng.random() < 0.5 else np.ones((3, 3), int)
        seen, rewards, terminated, truncated, infos = worlds.step(actions)
        for i, battle in enumerate(alone):
            if over[i]:
                starts[i], over[i], ended = battle.reset()[0], False, ended + 1
                assert rewards[i] == 0 and not terminated[i] and not truncated[i] and not infos["_battle_won"][i]
                continue
            starts[i], reward, *ends, info = battle.step(actions[i])
            assert (rewards[i], terminated[i], truncated[i]) == (reward, *ends)
            assert infos["battle_won"][i] == info["battle_won"] and infos["_battle_won"][i]
            over[i] = any(ends)
    assert ended >= 3


def test_what_is_returned_is_not_written_again():
    pytest.importorskip("gymnasium")
    from smac_engine.gymnasium_env import BattleVector

    worlds = BattleVector("3m", 2)
    first = worlds.reset(seed=1)[0]
    before = {name: array.copy() for name, array in first.items()}
    worlds.step(worlds.action_space.sample())
    assert all(np.array_equal(first[name], before[name]) for name in first)


def test_the_battles_over_arrays_are_exported():
    assert BattleVectorEnv([1, 2], map_name="3m").n_envs == 2
