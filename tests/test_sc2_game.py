"""StarCraft II as an engine: what is refused where it is missing, and what is put right around SMAC's environment.

A scripted environment stands in for SMAC's here; `test_sc2_equality.py` has the real one.
"""

import importlib
import sys

import numpy as np
import pytest

from envs.multiagentenv import Observations, Outcomes
from envs.sc2 import StarCraft2Env, game, resolve_engine
from envs.sc2.sim.rules import ENGINE_VERSION, Rules
from tests.sc2_server.install import BUILD_4_6_2, BUILD_4_10_0, install
from utils.errors import UserError

pytest.importorskip("pysc2", reason="pysc2 is not installed")

SMAC = """
from absl import flags
flags.FLAGS.is_parsed() or flags.FLAGS(["tests"])
from tests.test_sc2_game import ScriptedEnv as StarCraft2Env
"""


class ScriptedEnv:
    """SMAC's environment as far as it is looked at; `script` has what happens at each reset and step."""

    def __init__(self, **env_args):
        self.env_args = env_args
        self.replay_dir = env_args["replay_dir"]
        self.n_agents, self.episode_limit, self.max_reward = 2, 9, 100
        self.battles_game = self.timeouts = self.force_restarts = 0
        self.obs_timestep_number = env_args.get("obs_timestep_number", False)
        self.obs_instead_of_state = env_args.get("obs_instead_of_state", False)
        self.script: list[str] = []
        self.closed = False

    def reset(self):
        self.max_reward += 30 * (self.battles_game == 0)
        self._happen()
        return [[0.0] * 3] * 2, [0.0] * 5

    def step(self, actions):
        event = self._happen()
        self.battles_game += event in ("end", "time-out")
        self.timeouts += event == "time-out"
        if event == "crash":
            return 0, True, {}
        return 1, event != "play", {"battle_won": False, "dead_allies": 1, "dead_enemies": 2}

    def _happen(self):
        from google.protobuf.message import DecodeError
        from pysc2.lib.sc_process import SC2LaunchError

        event = self.script.pop(0) if self.script else "play"
        self.force_restarts += event == "crash"
        if event == "garbage":
            raise DecodeError("Error parsing message")
        if event == "vanish":
            raise SC2LaunchError("No SC2 binary found")
        return event

    def full_restart(self):
        self.force_restarts += 1

    def save_replay(self):
        from pysc2.lib.protocol import ProtocolError

        raise ProtocolError("called while in state: quit")

    def get_stats(self):
        return {"win_rate": 0 / self.battles_game, "restarts": self.force_restarts}

    def get_env_info(self):
        return {"obs_shape": 3, "state_shape": 5, "agent_features": ["health"]}

    def get_obs(self):
        return [[0.0] * 3] * 2

    def get_state(self):
        return [0.0] * 5

    def get_avail_actions(self):
        return [[1] * 4] * 2

    def get_obs_size(self):
        return 3

    def get_state_size(self):
        return 6 if self.obs_instead_of_state else 5

    def get_total_actions(self):
        return 4

    def unit_sight_range(self, agent_id):
        return 9

    def close(self):
        self.closed = True


def put_package(folder, monkeypatch, files):
    """Puts a package `smac` of these files in front of any other."""
    for name, text in files.items():
        path = folder / "packages" / "smac" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in [name for name in sys.modules if name.split(".")[0] == "smac"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder / "packages")
    importlib.invalidate_caches()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The folder of a game that is complete, with SMAC to play it."""
    put_package(tmp_path, monkeypatch, {"__init__.py": "", "env/__init__.py": SMAC, "env/starcraft2/__init__.py": ""})
    folder = install(tmp_path / "game", (BUILD_4_6_2, BUILD_4_10_0), ("3m", "8m"))
    monkeypatch.setenv("SC2PATH", str(folder))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "smac"]:
        del sys.modules[name]


@pytest.fixture
def env(installed):
    return StarCraft2Env(engine="game", map_name="3m", seed=7, rules=Rules()._asdict())


def script(env, *events):
    env._env.script = list(events)


# ------------------------------------------------------------------------------------------------ what is installed


def test_auto_takes_the_game_where_it_is_installed(installed, monkeypatch):
    assert resolve_engine("auto", map_name="3m") == resolve_engine("game", map_name="3m") == "game"
    assert resolve_engine("sim", map_name="3m") == "sim"
    assert isinstance(StarCraft2Env(map_name="3m"), game.StarCraft2Env)
    monkeypatch.setenv("SC2PATH", str(installed / "nothing here"))
    assert resolve_engine("auto", map_name="3m") == "sim"


def test_the_record_names_version_build_and_map(installed):
    newest = StarCraft2Env.describe(map_name="3m")["game"]
    assert (newest["version"], newest["build"]) == ("4.10.0", BUILD_4_10_0)
    older = StarCraft2Env.describe(engine="game", map_name="3m", game_version="4.6.2")["game"]
    assert (older["version"], older["build"]) == ("4.6.2", BUILD_4_6_2)
    (installed / "Maps" / "SMAC_Maps" / "3m.SC2Map").write_text("another map")
    assert StarCraft2Env.describe(map_name="3m")["game"]["map_sha256"] != newest["map_sha256"]
    assert StarCraft2Env.describe(engine="sim", map_name="3m") == {"engine_version": ENGINE_VERSION}


def test_what_is_missing_is_named_with_a_way_out(installed, monkeypatch, tmp_path):
    binary = installed / "Versions" / "Base75689" / "SC2_x64"
    binary.chmod(0o644)
    for engine in ("auto", "game"):  # a game that is there but broken is not passed over in silence
        with pytest.raises(UserError, match=r"may not be executed; `chmod \+x` it, or .*sc2.doctor.*engine=sim"):
            resolve_engine(engine, map_name="3m")
    binary.unlink()
    with pytest.raises(UserError, match="Base75689/SC2_x64 is missing"):
        resolve_engine("game", map_name="3m")
    with pytest.raises(UserError, match=r"game_version=4.7.1 is not among .*4.6.2"):
        resolve_engine("game", map_name="3m", game_version="4.7.1")
    with pytest.raises(UserError, match=r"MMM.SC2Map is missing; copy the folder .*SMAC_Maps"):
        resolve_engine("game", map_name="MMM", game_version="4.6.2")
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    with pytest.raises(game.NotInstalled, match=rf"not found in {tmp_path} .*set SC2PATH"):
        resolve_engine("game", map_name="3m")


def test_the_other_package_of_the_name_smac_is_told_apart(tmp_path, monkeypatch):
    put_package(tmp_path, monkeypatch, {"__init__.py": "raise AssertionError('imported')"})
    with pytest.raises(game.NotInstalled, match="another one of that name; uninstall it"):
        resolve_engine("game", map_name="3m")
    assert resolve_engine("auto", map_name="3m") == "sim"


def test_packages_that_do_not_fit_together_are_told_in_one_line(tmp_path, monkeypatch):
    broken = "raise TypeError('Descriptors cannot be created directly.\\nIf this call came from ...')"
    files = {"__init__.py": "", "env/__init__.py": broken, "env/starcraft2/__init__.py": ""}
    put_package(tmp_path, monkeypatch, files)
    with pytest.raises(
        game.NotInstalled, match=r"be imported \(Descriptors cannot be created directly. If this"
    ) as error:
        resolve_engine("game", map_name="3m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("package", ["pysc2", "s2clientprotocol", "smac"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setattr(game, "find_spec", lambda name: None if name == package else importlib.util.find_spec("envs"))
    with pytest.raises(game.NotInstalled, match=rf"package {package} is not installed; .*requirements-sc2.txt"):
        resolve_engine("game", map_name="3m")


def test_a_rule_of_the_embedded_engine_is_refused(installed):
    with pytest.raises(UserError, match=r"rules.scan_period_loops=1 is a rule of the embedded engine.*engine=sim"):
        resolve_engine("auto", map_name="3m", rules={**Rules()._asdict(), "scan_period_loops": 1})


# ------------------------------------------------------------------------------------------------ around SMAC


def test_arguments_reach_smac_and_what_smac_has_is_there(env, tmp_path, monkeypatch):
    assert env._env.env_args["map_name"] == "3m" and env._env.env_args["seed"] == 7
    assert "rules" not in env._env.env_args and "engine" not in env._env.env_args
    assert env.unit_sight_range(0) == 9 and env.n_agents == 2
    monkeypatch.chdir(tmp_path)
    env = StarCraft2Env(engine="game", map_name="3m", replay_dir="films", debug=True)
    assert env._env.env_args["replay_dir"] == str(tmp_path / "films") and env._env.env_args["debug"]
    env.close()
    assert env._env.closed


def test_sizes_count_both_columns_of_the_time(installed):
    options = {"engine": "game", "map_name": "3m", "obs_timestep_number": True, "obs_instead_of_state": True}
    env = StarCraft2Env(**options)
    assert (env.get_obs_size(), env.get_state_size()) == (4, 8)
    info = env.get_env_info()
    assert (info["obs_shape"], info["state_shape"], info["n_actions"]) == (4, 8, 4)
    assert info["agent_features"] == ["health"] and info["episode_limit"] == 9


def test_a_time_out_is_told_and_an_end_is_not_taken_for_one(env):
    script(env, "reset", "play", "time-out", "reset", "end")
    env.reset()
    assert env.step([0, 0])[1:] == (False, {"battle_won": False, "dead_allies": 1, "dead_enemies": 2})
    reward, over, info = env.step([0, 0])
    assert isinstance(reward, float) and over and info["episode_limit"] is True
    env.reset()
    assert "episode_limit" not in env.step([0, 0])[2]


@pytest.mark.parametrize("failure", ["crash", "garbage"])
def test_an_episode_that_the_game_failed_in_is_lost(installed, failure):
    worlds = StarCraft2Env.vector([1, 2], engine="game", map_name="3m")
    env_info = worlds.get_env_info() | {"n_agents": 2}
    seen, outcomes = Observations.empty(2, env_info), Outcomes.empty(2, worlds.info_keys)
    script(worlds.envs[1], "reset", failure, "reset", "end")
    for lost in ([False, True], [False, False]):
        worlds.reset(seen)
        worlds.step([[0, 0], [0, 0]], seen, outcomes)
        assert outcomes.lost.tolist() == lost
    assert worlds.get_stats()[1]["restarts"] == 1


def test_a_reset_that_the_game_failed_in_is_done_again(env):
    script(env, "garbage", "crash", "reset")
    env.reset()
    assert env.force_restarts == 2 and env.get_stats()["restarts"] == 2


def test_restarts_do_not_raise_the_highest_reward(env):
    script(env, "reset", "crash", "reset", "crash", "reset", "end", "reset")
    for _ in range(3):
        env.reset()
        env.step([0, 0])
    env.reset()
    assert env.max_reward == 130


def test_a_game_that_fails_again_and_again_is_given_up(env):
    script(env, *["reset", "crash"] * game.MAX_RESTARTS, "reset", "end", *["reset", "crash"] * 9)
    for _ in range(2 * game.MAX_RESTARTS + 1):  # an episode that ends in between starts the count anew
        env.reset()
        env.step([0, 0])
    env.reset()
    with pytest.raises(RuntimeError, match="failed 6 times without ending an episode"):
        env.step([0, 0])


def test_a_game_that_cannot_be_launched_is_one_sentence(env):
    script(env, "vanish")
    with pytest.raises(UserError, match="StarCraft II can't be launched: No SC2 binary found"):
        env.reset()


def test_the_heuristic_does_not_write_into_the_callers_array(env):
    given = []
    env._env.step = lambda actions: given.append(actions) or (0, False, {})
    env.reset()
    env.step(np.zeros(2, int))
    actions = [0, 0]
    env.step(actions)
    assert isinstance(given[0], list) and given[1] is actions


def test_a_replay_needs_an_episode_and_a_game(env):
    with pytest.raises(UserError, match="play one first"):
        env.save_replay()
    env.reset()
    with pytest.raises(UserError, match="can't be written"):
        env.save_replay()
