"""StarCraft micromanagement: picks the engine that plays it. `sim/` is the embedded one; `game.py` brings the game.

`engine: auto` takes the game where it is installed and else the embedded engine; neither is imported early.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.multiagentenv import Info, MultiAgentEnv, VectorEnv, WorkerLimits
from envs.sc2.enemies import BOT, check_enemies, conflict
from envs.sc2.sim.maps import is_map_file
from envs.sc2.sim.rules import Rules
from utils.config import K, M, key
from utils.dict2namedtuple import Config
from utils.errors import UserError

ENGINES, LOOPS = ("auto", "game", "sim"), "game loops"


def resolve_engine(engine: str, **env_args: Any) -> str:
    """Returns the engine that this choice means on this machine, for these `env_args`: "game" or "sim".

    Raises: UserError where the choice is unknown or cannot be had.
    """
    if engine not in ENGINES:
        raise UserError(f"env_args.engine is {engine!r}; it must be one of {', '.join(ENGINES)}")
    names = check_enemies(env_args.get("enemy", BOT), env_args.get("test_enemies"))
    own_map = is_map_file(env_args.get("map_name", ""))
    if own_map:
        from envs.sc2.own_maps import load_map

        load_map(env_args["map_name"])
    if engine == "sim":
        return "sim"
    from envs.sc2 import game

    try:
        game.check(**env_args | ({"map_name": "8m"} if own_map else {}))
    except game.NotInstalled:
        if engine == "auto":
            return "sim"
        raise
    if names or own_map:
        what = f"enemy={names[0]}" if names else f"map_name={env_args['map_name']}"
        raise UserError(
            f"env_args.{what} is for the embedded engine only, and env_args.engine={engine} means StarCraft II here; "
            "set env_args.engine=sim, or leave it out"
        )
    return "game"


RULES = Rules()  # the defaults


@dataclass(frozen=True)
class RuleKeys:
    """The embedded engine only: readings of StarCraft II's rules that are not settled (`sim/rules.py`)."""

    enemy_list: str = key(RULES.enemy_list, "order of the enemies' ids", choices=("shuffled", "created"))
    scan_period_loops: int = key(
        RULES.scan_period_loops, "a unit without a target looks for one this often", LOOPS, low=1, high=K
    )
    spawn_age_loops: int = key(RULES.spawn_age_loops, "age of the units at the first observation", LOOPS, low=0, high=1)
    passing_side: str = key(
        RULES.passing_side, "on which side friends pass that run into each other", choices=("right", "left")
    )


@dataclass(frozen=True)
class SmacKeys:
    """What SMAC and SMACv2 have in common."""

    engine: str = key("auto", "game: StarCraft II; sim: the embedded engine; auto: either", choices=ENGINES)
    map_name: str = key("8m", "the map, or a YAML file of one", names="envs.sc2.sim.maps:NAMES_AND_FILES")
    step_mul: int = key(8, "game loops per environment step", LOOPS, low=1, high=K)
    move_amount: int = key(2, "how far a move is ordered", "map units", low=1, high=K)
    difficulty: str = key("7", "of the game: 1 (very easy) .. 7 (very hard) .. 9, A", choices=(*"123456789", "A"))
    game_version: str | None = key(None, "StarCraft II's version; null: the newest installed")
    seed: int | None = key(None, "the environment's seed; null: the run's seed", low=0, high=2**32 - 1)
    continuing_episode: bool = key(False, "report an end by the time limit in info, as `episode_limit`")
    debug: bool = key(False, "the game interface's own logging")
    obs_all_health: bool = key(True, "observe others' health and shield")
    obs_own_health: bool = key(True, "observe one's own health and shield")
    obs_last_action: bool = key(False, "observe allies' last actions")
    obs_pathing_grid: bool = key(False, "observe whether 8 points around can be walked on")
    obs_terrain_height: bool = key(False, "observe the height of 9 points around")
    obs_instead_of_state: bool = key(False, "the state is all observations joined")
    obs_timestep_number: bool = key(False, "observe the time, as a share of the episode's limit")
    state_last_action: bool = key(True, "the state holds all last actions")
    state_timestep_number: bool = key(False, "the state holds the time, as a share of the episode's limit")
    reward_sparse: bool = key(False, "reward only the outcome: 1 won, -1 lost")
    reward_only_positive: bool = key(True, "leave allies' damage and deaths out of the reward")
    reward_death_value: float = key(10, "for an enemy's death", "points", low=-M, high=M)
    reward_win: float = key(200, "for a victory", "points", low=-M, high=M)
    reward_defeat: float = key(0, "for a defeat", "points", low=-M, high=M)
    reward_negative_scale: float = key(0.5, "factor on allies' damage and deaths", low=-M, high=M)
    reward_scale: bool = key(True, "scale rewards so that a flawless victory returns reward_scale_rate")
    reward_scale_rate: float = key(20, "the highest return after scaling", "points", above=0, high=M)
    replay_dir: Path = key("", "folder of replays; empty: local_results_path/replays/<name of the run>")
    replay_prefix: str = key("", "start of replays' names; empty: the map's name", is_in_file_name=True)
    window_size_x: int = key(1920, "width of the game's window", "pixels", low=1, high=10 * K)
    window_size_y: int = key(1200, "height of the game's window", "pixels", low=1, high=10 * K)
    heuristic_ai: bool = key(False, "a hand-written policy acts instead of the agents")
    heuristic_rest: bool = key(False, "that policy keeps to the actions that the agents have")
    enemy: list | str = key(BOT, "who plays against: bot, script:NAME, policy:FOLDER, self; of a list one is drawn")
    test_enemies: list | None = key(None, "who plays against in tests, each in turn; null: those of `enemy`")
    rules: RuleKeys = RuleKeys()  # noqa: RUF009 (immutable)


class StarCraft2Env:
    """The registry's entry: makes the environment of the resolved engine."""

    Keys = SmacKeys

    def __new__(cls, engine: str = "auto", **env_args: Any) -> MultiAgentEnv:  # type: ignore[misc]
        return _environment_class(resolve_engine(engine, **env_args))(**env_args)

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        return conflict(config)

    @staticmethod
    def resolve(engine: str = "auto", **env_args: Any) -> str:
        return resolve_engine(engine, **env_args)

    @staticmethod
    def describe(engine: str = "auto", **env_args: Any) -> Info:
        if resolve_engine(engine, **env_args) == "sim":
            from envs.sc2.sim.rules import ENGINE_VERSION

            own = {}
            if is_map_file(map_name := env_args.get("map_name", "")):
                from envs.sc2.own_maps import read_map

                own = {"map": read_map(map_name)}
            return {"engine_version": ENGINE_VERSION, **own}
        from envs.sc2 import game

        return {"game": game.describe(**env_args)}

    @staticmethod
    def vector(
        seeds: Sequence[int],
        engine: str = "auto",
        *,
        workers: WorkerLimits | None = None,
        parallel: bool = True,
        **env_args: Any,
    ) -> VectorEnv:
        """Returns an environment of one world per seed; the embedded engine plays all worlds in this process."""
        engine = resolve_engine(engine, **env_args)
        if engine == "game":
            return _environment_class(engine).vector(seeds, workers=workers, parallel=parallel, **env_args)
        return _environment_class(engine).vector(seeds, **env_args)


def _environment_class(engine: str) -> type[MultiAgentEnv]:
    if engine == "game":
        from envs.sc2.game import StarCraft2Env as Game

        return Game
    from envs.sc2.sim.smac import StarCraft2Env as Embedded

    return Embedded
