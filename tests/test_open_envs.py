"""Gymnasium's and PettingZoo's environments: the contract, padding, masks, ends, free settings, mistakes."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import main
from config.layers import explain
from envs import REGISTRY
from envs.check import check_env
from utils.errors import UserError

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("pettingzoo")
spaces = gymnasium.spaces
LBF, RWARE = "lbforaging:Foraging-8x8-2p-3f-v3", "rware:rware-tiny-2ag-v2"
SHORT = ("t_max=20", "test_interval=20", "test_nepisode=1", "batch_size=2", "buffer_size=4", "use_tensorboard=False")


class Ragged(gymnasium.Env):
    """Two agents: one sees 2 numbers and has actions 1..3, the other sees 4 and has actions 0..1."""

    observation_space = spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2, 2))])
    action_space = spaces.Tuple([spaces.Discrete(3, start=1), spaces.Discrete(2)])

    def __init__(self, ends=((False, False), (False, False)), rewards=(1.0, 2.0), mask=None):
        self.ends, self.rewards, self.played = ends, rewards, []
        self.info = {} if mask is None else {"action_mask": mask}

    def look(self):
        return np.ones(2, np.float32), np.full((2, 2), 0.5, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), self.info

    def step(self, action):
        self.played.append(list(action))
        terminated, truncated = self.ends
        return self.look(), self.rewards, terminated, truncated, self.info


class Continuous(Ragged):
    action_space = spaces.Tuple([spaces.Box(-1, 1, (2,))] * 2)


class Words(Ragged):
    observation_space = spaces.Tuple([spaces.Sequence(spaces.Discrete(3))] * 2)


@pytest.fixture(autouse=True)
def registered():
    for env_class in (Ragged, Continuous, Words):
        gymnasium.register(f"{env_class.__name__}-v0", env_class)
    yield
    for env_class in (Ragged, Continuous, Words):
        del gymnasium.registry[f"{env_class.__name__}-v0"]


def gymma(**env_args):
    return REGISTRY["gymma"](**env_args)


def pettingzoo(**env_args):
    return REGISTRY["pettingzoo"](**env_args)


WORLDS = [
    ("gymma", {"key": RWARE, "time_limit": 20}),
    ("gymma", {"key": RWARE, "time_limit": 20, "common_reward": False, "sensor_range": 2}),
    ("pettingzoo", {"module": "mpe2.simple_spread_v3", "N": 2, "max_cycles": 10}),
    ("pettingzoo", {"module": "mpe2.simple_tag_v3", "max_cycles": 10, "common_reward": False}),
    (
        "pettingzoo",
        {"module": "pettingzoo.sisl.pursuit_v5", "time_limit": 10, "x_size": 8, "y_size": 8, "n_evaders": 4},
    ),
]


@pytest.mark.parametrize(("name", "env_args"), WORLDS)
def test_the_contract_holds(name, env_args):
    if "rware" in str(env_args):
        pytest.importorskip("rware")
    world = REGISTRY[name]
    check_env(world(seed=1, **env_args), n_episodes=2, make_env=lambda: world(seed=1, **env_args))


def test_foraging_by_its_registered_name_keeps_the_contract():
    check_env(gymma(key=LBF, seed=1, time_limit=20), n_episodes=2)


def test_shorter_observations_are_padded_and_missing_actions_never_available():
    env = gymma(key="Ragged-v0")
    obs, state = env.reset()
    assert np.array_equal(obs, [[1, 1, 0, 0], [0.5] * 4]) and state.tolist() == [1, 1, 0, 0, *[0.5] * 4]
    assert env.get_avail_actions() == [[1, 1, 1], [1, 1, 0]]
    env.step([2, 1])
    assert env._env.unwrapped.played == [[3, 1]]  # the first agent's actions begin at 1


@pytest.mark.parametrize(("common_reward", "expected"), [(True, 3.0), (False, [1.0, 2.0])])
def test_rewards_are_the_sum_or_of_each(common_reward, expected):
    env = gymma(key="Ragged-v0", common_reward=common_reward)
    assert env.step([0, 0])[0] == expected
    assert gymma(key="Ragged-v0", rewards=4.0).step([0, 0])[0] == 4.0


@pytest.mark.parametrize(
    ("ends", "over", "cut_off"),
    [
        ((True, False), True, False),
        ((False, True), True, True),
        (((True, False), (False, False)), False, False),
        (((True, True), (False, False)), True, False),
        (((True, False), (False, True)), True, True),
    ],
)
def test_an_episode_is_over_when_it_is_for_all(ends, over, cut_off):
    _, terminated, info = gymma(key="Ragged-v0", ends=ends).step([0, 0])
    assert (terminated, info["episode_limit"]) == (over, cut_off)


def test_the_time_limit_cuts_off():
    env = gymma(key="Ragged-v0", time_limit=2)
    for _ in range(2):
        env.reset()
        assert env.step([0, 0])[1:] == (False, {"episode_limit": False})
        assert env.step([0, 0])[1:] == (True, {"episode_limit": True})


def test_masks_are_read_from_info():
    assert gymma(key="Ragged-v0", mask=[[0, 1, 0], [1, 0]]).get_avail_actions() == [[0, 1, 0], [1, 0, 0]]


class Parallel:
    """Agents a and b; b leaves after the first step. Masks are in observations or in info."""

    possible_agents = ["a", "b"]

    def __init__(self, mask_in="observation", actions=None):
        self.mask_in, self.actions = mask_in, actions or spaces.Discrete(3)
        self.agents = []

    def observation_space(self, agent):
        box = spaces.Box(-1, 1, (2,))
        if self.mask_in != "observation":
            return box
        return spaces.Dict({"observation": box, "action_mask": spaces.MultiBinary(3)})

    def action_space(self, agent):
        return self.actions

    def see(self, names):
        box, mask = np.ones(2, np.float32), np.array([0, 1, 1], np.int8)
        in_obs = {"observation": box, "action_mask": mask} if self.mask_in == "observation" else box
        return {name: in_obs for name in names}, {
            name: {"action_mask": mask} if self.mask_in == "info" else {} for name in names
        }

    def reset(self, seed=None, options=None):
        self.agents = ["a", "b"]
        return self.see(self.agents)

    def step(self, actions):
        names, first = list(actions), len(actions) == 2
        assert names == self.agents
        obs, infos = self.see(names)
        self.agents = ["a"] if first else []
        terminated = {name: name == "b" or not first for name in names}
        return obs, dict.fromkeys(names, 1.0), terminated, dict.fromkeys(names, False), infos

    def close(self):
        pass


@pytest.fixture
def parallel_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_parallel", SimpleNamespace(parallel_env=Parallel))
    monkeypatch.setitem(sys.modules, "my_aec", SimpleNamespace(env=Parallel))


@pytest.mark.usefixtures("parallel_module")
@pytest.mark.parametrize(("mask_in", "first"), [("observation", 0), ("info", 0), ("", 1)])
def test_masks_come_from_observation_or_info_and_who_left_has_one_action(mask_in, first):
    env = pettingzoo(module="my_parallel", mask_in=mask_in, common_reward=False)
    obs, _ = env.reset()
    assert np.array_equal(obs, np.ones((2, 2))) and env.get_avail_actions() == [[first, 1, 1]] * 2
    rewards, over, _ = env.step([1, 1])
    assert rewards == [1, 1] and not over
    assert env.get_avail_actions() == [[first, 1, 1], [1, 0, 0]] and np.array_equal(env.get_obs_agent(1), np.zeros(2))
    rewards, over, info = env.step([1, 0])
    assert rewards == [1, 0] and over and not info["episode_limit"]


def test_the_limit_of_a_package_is_a_time_out():
    env = pettingzoo(module="mpe2.simple_spread_v3", max_cycles=3)
    env.reset()
    assert [env.step([0] * 3)[1:] for _ in range(3)][-1] == (True, {"episode_limit": True})


# --- settings


def env_args_of(*settings):
    return main.read_settings(settings[0], "--config=coma", *settings[1:])["env_args"]


def test_keys_without_a_schema_are_read_as_yaml():
    given = ["with", "env_args.N=2", "env_args.local_ratio=0.5", "env_args.names=[a, b]", "env_args.inner.on=true"]
    env_args = env_args_of("--env-config=pettingzoo", *given)
    assert env_args == {
        "module": "", "time_limit": 100, "seed": None, "N": 2, "local_ratio": 0.5, "names": ["a", "b"],
        "inner": {"on": True},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"env_args.names=\[a is not allowed: it must be a value in YAML"):
        env_args_of("--env-config=pettingzoo", "--env_args.names=[a")


def test_a_declared_key_keeps_its_check_and_other_environments_their_schema():
    with pytest.raises(UserError, match="time_limit=0 is not allowed"):
        env_args_of("--env-config=gymma", "--env_args.time_limit=0")
    with pytest.raises(UserError, match="unknown key 'env_args.N'"):
        env_args_of("--env-config=lbforaging", "--env_args.N=2")
    with pytest.raises(UserError, match="unknown key 'N'"):
        env_args_of("--env-config=pettingzoo", "--N=2")


def test_help_says_that_other_keys_are_the_environments_own():
    assert "every other env_args.KEY is an argument of the environment's own" in explain("gymma")


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("gymma", [], "env_args.key names no environment"),
        ("gymma", ["key=lbforaging:Foraging-8x8-2p-3f-v33"], "did you mean 'Foraging-8x8-2p-3f-v3'?"),
        ("gymma", ["key=no_package:Game-v0"], "the module 'no_package' can't be imported"),
        ("gymma", ["key=CartPole-v1"], "env_args.key=CartPole-v1 has one agent"),
        ("gymma", ["key=Continuous-v0"], "only Discrete actions can be chosen here"),
        ("gymma", ["key=Words-v0"], "which have no fixed length"),
        ("gymma", ["key=Ragged-v0", "colour=red"], "can't be made with env_args.colour=red"),
        ("pettingzoo", [], "env_args.module names no environment"),
        ("pettingzoo", ["module=mpe2.simple_sprade_v3"], "the module 'mpe2.simple_sprade_v3' can't be imported"),
        ("pettingzoo", ["module=mpe2.simple_spread_v3", "continuous_actions=True"], "only Discrete actions"),
        ("pettingzoo", ["module=my_aec"], "has no parallel_env"),
    ],
)
@pytest.mark.usefixtures("parallel_module")
def test_a_mistake_is_one_sentence_and_nothing_on_disk(name, settings, sentence, tmp_path, capsys):
    params = [f"--local_results_path={tmp_path}", *(f"--env_args.{setting}" for setting in settings)]
    assert main.main(["--config=iql", f"--env-config={name}", *params]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and sentence in message
    assert list(tmp_path.iterdir()) == []


def test_one_reward_for_the_team_can_not_be_one_for_each():
    with pytest.raises(UserError, match="common_reward=False, but env_args.key=Ragged-v0 returns one reward"):
        gymma(key="Ragged-v0", rewards=1.0, common_reward=False).step([0, 0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alg", "name", "settings"),
    [
        ("qmix", "gymma", [f"env_args.key={LBF}", "env_args.time_limit=8"]),
        ("coma", "pettingzoo", ["env_args.module=mpe2.simple_spread_v3", "env_args.N=2", "env_args.time_limit=5"]),
        ("iql", "pettingzoo", ["env_args.module=mpe2.simple_tag_v3", "common_reward=False", "env_args.max_cycles=5"]),
    ],
)
def test_a_short_run_completes(alg, name, settings, tmp_path):
    params = [f"--config={alg}", f"--env-config={name}", f"--local_results_path={tmp_path}", "--seed=1"]
    assert main.main([*params, "with", *SHORT, *settings]) == 0
    assert json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())["status"] == "COMPLETED"
