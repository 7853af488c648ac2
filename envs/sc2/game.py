"""StarCraft II itself: finds the game, and wraps SMAC's own environment, of the package `smac`, which plays it.

`sim/` is the embedded engine, which needs neither. Nothing of the packages is imported before it is used.
"""

import hashlib
import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.multiagentenv import EnvInfo, Info, MultiAgentEnv
from envs.sc2.ports import PortPicker
from envs.sc2.sim.rules import Rules
from utils.errors import UserError
from utils.logging import LOGGER_NAME
from utils.MY_EXP_PATH import experiment_root

INSTALL_PACKAGES = "`pip install -r requirements-sc2.txt` installs what the game needs"
OR_ELSE = "let `python -m envs.sc2.doctor` look for more, or use env_args.engine=sim for the embedded engine"
BINARIES = {"Linux": "SC2_x64", "Windows": "SC2_x64.exe", "Darwin": "SC2.app/Contents/MacOS/SC2"}
ENEMY_KEYS = ("enemy", "test_enemies")  # of the embedded engine, where they are not as they are here
MAX_RESTARTS = 5  # of the game, without an episode that ended in between


class NotInstalled(UserError):
    """The game, or a package that it takes, is not there."""


class Installation(NamedTuple):
    """What plays a map on this machine."""

    folder: Path
    version: str  # such as 4.10.0
    build: int
    binary: Path
    map_path: Path


def find_game(map_name: str, game_version: str | None = None) -> Installation:
    """Finds the game's binary of this version (None: the newest) and the map, where pysc2 looks for them.

    Raises:
        NotInstalled: the packages or the game are missing.
        UserError: something else is, or may not be executed.
    """
    _check_packages()
    try:
        import smac.env  # noqa: F401  (pysc2 wants its flags parsed, which smac does)
        from pysc2 import run_configs
        from pysc2.lib.sc_process import SC2LaunchError
        from pysc2.run_configs.lib import VERSIONS
    except (ImportError, TypeError) as error:  # protobuf raises TypeErrors where its version does not fit
        raise NotInstalled(
            f"the packages smac and pysc2 can't be imported ({_line(error)}); {INSTALL_PACKAGES}, or {OR_ELSE}"
        ) from error

    place = os.environ.get("SC2PATH") or "pysc2's default folder, as SC2PATH is not set"
    try:
        run_config = run_configs.get(version=game_version)
    except (OSError, SC2LaunchError) as error:
        raise NotInstalled(
            f"StarCraft II was not found in {place} ({_line(error)}); set SC2PATH to the folder that holds "
            f"Versions and Maps, or {OR_ELSE}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"env_args.game_version={game_version} is not among the versions of StarCraft II in {place}: {_line(error)}"
        ) from error

    folder, build = Path(run_config.data_dir), run_config.version.build_version
    names = [version.game_version for version in VERSIONS.values() if version.build_version == build]
    version = run_config.version.game_version if game_version else (names or [f"of build {build}"])[-1]
    binary = folder / "Versions" / f"Base{build}" / BINARIES.get(platform.system(), "SC2_x64")
    if not os.access(binary, os.X_OK):
        problem = "may not be executed; `chmod +x` it" if binary.exists() else "is missing; install the game anew"
        raise UserError(f"StarCraft II's binary {binary} {problem}, or {OR_ELSE}")
    map_path = folder / "Maps" / "SMAC_Maps" / f"{map_name}.SC2Map"
    if not map_path.is_file():
        raise UserError(
            f"SMAC's map {map_path} is missing; copy the folder smac/env/starcraft2/maps/SMAC_Maps of "
            f"https://github.com/oxwhirl/smac to {map_path.parent.parent}, or {OR_ELSE}"
        )
    return Installation(folder, version, build, binary, map_path)


def _check_packages() -> None:
    for package in ("pysc2", "s2clientprotocol", "smac"):
        if (spec := find_spec(package)) is None:
            raise NotInstalled(f"the package {package} is not installed; {INSTALL_PACKAGES}, or {OR_ELSE}")
    assert spec is not None
    if not is_starcrafts(spec):
        raise NotInstalled(
            "the package smac that is installed is not the StarCraft Multi-Agent Challenge, but another one of that "
            f"name; uninstall it, {INSTALL_PACKAGES}, or {OR_ELSE}"
        )


def is_starcrafts(smac: ModuleSpec) -> bool:
    """Returns whether the installed package `smac` is the StarCraft Multi-Agent Challenge, and not SMAC3."""
    return any((Path(place) / "env" / "starcraft2").is_dir() for place in smac.submodule_search_locations or ())


def check(
    map_name: str = "8m", game_version: str | None = None, rules: Mapping[str, object] | None = None, **env_args: Any
) -> Installation:
    """Finds the game and the map that an environment's arguments mean.

    Raises: UserError as `find_game` does, or where a rule is set that only the embedded engine has.
    """
    game = find_game(map_name, game_version)
    for name, value in (rules or {}).items():
        if value != Rules._field_defaults.get(name):
            raise UserError(
                f"env_args.rules.{name}={value} is a rule of the embedded engine, and StarCraft II has its own; "
                f"leave it out, or {OR_ELSE}"
            )
    return game


def describe(**env_args: Any) -> Info:
    """Returns what a run's record holds of the game: its version, the binary's build, the map's checksum."""
    game = check(**env_args)
    checksum = hashlib.sha256(game.map_path.read_bytes()).hexdigest()
    return {"version": game.version, "build": game.build, "map_sha256": checksum}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _failures() -> tuple[type[Exception], ...]:
    """Returns what pysc2 raises when the game is gone or refuses."""
    from pysc2.lib.protocol import ConnectionError, ProtocolError
    from pysc2.lib.remote_controller import ConnectError, RequestError
    from pysc2.lib.sc_process import SC2LaunchError

    return ConnectionError, ProtocolError, ConnectError, RequestError, SC2LaunchError, OSError


def _forwarded(name: str) -> Any:
    """Returns a method that calls the one of this name of SMAC's environment."""
    return lambda self, *arguments, **named: getattr(self._env, name)(*arguments, **named)


class StarCraft2Env(MultiAgentEnv):
    """SMAC's `StarCraft2Env`, with its arguments, and whatever else it has under the names that it has there.

    Corrected: `info["episode_limit"]` is True after every time-out, whatever `continuing_episode` says; sizes count
    both columns of `obs_timestep_number`; a restart of the game does not raise `max_reward`. When the game fails, SMAC
    launches it again: the episode is lost (`info["lost"]`, see `Outcomes`), and a new one begins at the next `reset`.

    Raises: UserError where the game can't be had or launched.
    """

    info_keys = ("battle_won", "dead_allies", "dead_enemies")
    needs_process = True
    get_obs, get_state, get_avail_actions = map(_forwarded, ("get_obs", "get_state", "get_avail_actions"))
    get_total_actions, seed, render, close = map(_forwarded, ("get_total_actions", "seed", "render", "close"))

    def __init__(self, map_name: str = "8m", *, rules: Mapping[str, object] | None = None, **env_args: Any):
        check(map_name, rules=rules, **env_args)
        env_args = {name: value for name, value in env_args.items() if name not in ENEMY_KEYS}
        from pysc2.lib import sc_process
        from smac.env import StarCraft2Env as SmacEnv

        if platform.system() == "Linux" and not isinstance(sc_process.portpicker, PortPicker):
            sc_process.portpicker = PortPicker()
        folder = Path(env_args.get("replay_dir") or experiment_root() / "replays")
        # pysc2 reads a relative path from the game's own folder of replays
        self._env = SmacEnv(map_name=map_name, **env_args | {"replay_dir": str(folder.absolute())})
        self._max_reward = self._env.max_reward
        self._restarts_in_a_row = 0
        self._launched = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Raises: RuntimeError where the game fails again and again."""
        while True:
            if not self._env.battles_game:  # until then SMAC, at every reset,
                self._env.max_reward = self._max_reward  # adds up the enemies' health
                self._env.close()  # and launches a game, even beside one that it launched anew after a failure
            seen, failed = self._watch(self._env.reset)
            self._launched = True
            if not failed:
                return seen

    def step(self, actions: Sequence[int]) -> tuple[float, bool, Info]:
        """Raises: AssertionError where an action is not available; RuntimeError where the game fails too often."""
        n_timeouts = self._env.timeouts
        # SMAC writes what its heuristic chose into a list, which must not be a row of the caller's array
        actions = actions if isinstance(actions, list) else list(actions)
        answer, failed = self._watch(self._env.step, actions)
        if failed:
            return 0.0, True, {**dict.fromkeys(self.info_keys, 0), "lost": True}
        reward, over, info = answer
        if over:
            self._restarts_in_a_row = 0
        if self._env.timeouts > n_timeouts:
            info["episode_limit"] = True
        return float(reward), bool(over), info

    def _watch(self, call: Callable, *arguments: object) -> tuple[Any, bool]:
        """Returns (what the call returns, whether the game failed and was launched anew meanwhile)."""
        from google.protobuf.message import DecodeError

        n_restarts, answer = self._env.force_restarts, None
        try:
            try:
                answer = call(*arguments)
            except DecodeError:  # which SMAC does not expect
                self._env.full_restart()
            except (KeyError, AttributeError):  # a first episode that broke off before SMAC had seen the units
                if self._env.force_restarts == n_restarts:
                    raise
        except _failures() as error:
            raise UserError(f"StarCraft II can't be launched: {_line(error)}; {OR_ELSE}") from error
        failed = self._env.force_restarts > n_restarts
        if failed:
            self._restarts_in_a_row += 1
            if self._restarts_in_a_row > MAX_RESTARTS:
                raise RuntimeError(f"StarCraft II has failed {self._restarts_in_a_row} times without ending an episode")
            message = f"StarCraft II failed and was launched anew (restart {self._env.force_restarts})"
            logging.getLogger(LOGGER_NAME).warning(f"{message}; its episode is played again")
        return answer, failed

    def get_obs_size(self) -> int:
        return self._env.get_obs_size() + bool(self._env.obs_timestep_number)

    def get_state_size(self) -> int:
        joined = self._env.obs_instead_of_state
        return self.get_obs_size() * self._env.n_agents if joined else self._env.get_state_size()

    def get_env_info(self) -> EnvInfo:
        return {**self._env.get_env_info(), **super().get_env_info()}

    def get_stats(self) -> dict[str, float]:
        if not self._env.battles_game:  # SMAC would divide by it
            return dict.fromkeys(("battles_won", "battles_game", "battles_draw", "win_rate", "timeouts"), 0) | {
                "restarts": self._env.force_restarts
            }
        return self._env.get_stats()

    def save_replay(self) -> None:
        """Writes the game's own replay of all episodes since it was launched.

        Raises: UserError where none has been played, or the file can't be written.
        """
        if not self._launched:
            raise UserError("there is no episode to save as a replay; play one first")
        try:
            self._env.save_replay()
        except _failures() as error:
            raise UserError(
                f"a replay can't be written to {self._env.replay_dir} ({_line(error)}); "
                "if the folder is the cause, set env_args.replay_dir"
            ) from error
