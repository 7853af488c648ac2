"""SMACv2: StarCraft micromanagement with teams and places drawn anew in every episode, on the embedded engine.

`sim/smacv2/` plays it; `__init__.py` has SMAC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envs.multiagentenv import Info, MultiAgentEnv, VectorEnv, WorkerLimits
from envs.sc2 import LOOPS, SmacKeys
from envs.sc2.enemies import BOT, check_enemies, conflict
from envs.sc2.sim.rules import ENGINE_VERSION
from envs.sc2.sim.smacv2.arguments import VERSIONS, checked
from utils.config import K, Numbers, key, unflattened
from utils.dict2namedtuple import Config
from utils.errors import UserError

ENGINES = ("auto", "sim")


@dataclass(frozen=True)
class TeamKeys:
    """Which units both sides have."""

    dist_type: str | None = key(None, "how teams are drawn", choices=("weighted_teams", "all_teams"))
    unit_types: list | None = key(None, "the unit types that are drawn, such as [marine, marauder, medivac]")
    weights: Numbers | None = key(None, "the share of each unit type; they sum to 1")
    exception_unit_types: list | None = key(None, "unit types of which alone no team consists")
    observe: bool | None = key(None, "observe allies' unit types")


@dataclass(frozen=True)
class PlaceKeys:
    """Where the units are created; without it the sides stand opposite each other."""

    dist_type: str | None = key(
        None, "how places are drawn", choices=("surrounded_and_reflect", "surrounded", "reflect_position")
    )
    p: float | None = key(None, "chance of reflect_position and not surrounded", low=0, high=1)
    map_x: float | None = key(None, "width of the map; null: 32", "map units", low=6, high=32)
    map_y: float | None = key(None, "height of the map; null: 32", "map units", low=6, high=32)
    n_enemies: int | None = key(None, "SMACv2's examples have it here, too, without effect", "units", low=1, high=K)


@dataclass(frozen=True)
class NumberKeys:
    """A number for each agent."""

    dist_type: str | None = key(None, "how the numbers are drawn", choices=("per_agent_uniform",))
    lower_bound: Numbers | None = key(None, "the lowest number, as a list of one")
    upper_bound: Numbers | None = key(None, "the highest number, as a list of one")
    observe: bool | None = key(None, "observe allies' numbers")


@dataclass(frozen=True)
class MaskKeys:
    """Whether an enemy's health and type are shown."""

    dist_type: str | None = key(None, "how it is drawn", choices=("mask",))
    mask_probability: float | None = key(None, "the chance that they are shown", low=0, high=1)


@dataclass(frozen=True)
class CapabilityKeys:
    """What is drawn for every episode, under SMACv2's names; for 10gen_terran, 10gen_protoss and 10gen_zerg."""

    n_units: int | None = key(None, "agents", "units", low=1, high=K)
    n_enemies: int | None = key(None, "enemies", "units", low=1, high=K)
    team_gen: TeamKeys = TeamKeys()  # noqa: RUF009 (immutable)
    start_positions: PlaceKeys = PlaceKeys()  # noqa: RUF009
    attack: NumberKeys = NumberKeys()  # noqa: RUF009
    health: NumberKeys = NumberKeys()  # noqa: RUF009
    enemy_mask: MaskKeys = MaskKeys()  # noqa: RUF009


class SMACv2Env:
    """The registry's entry."""

    @dataclass(frozen=True)
    class Keys(SmacKeys):
        engine: str = key("auto", "the embedded engine is the only one", choices=ENGINES)
        map_name: str = key(
            "terran_5_vs_5", "a standard scenario, or a map", names="envs.sc2.sim.smacv2.races:MAP_NAMES"
        )
        version: str = key(
            "before_epo",
            "before_epo: as in the published results; head: as since June 2023, when agents came to be told of enemies",
            choices=tuple(VERSIONS),
        )
        capability_config: CapabilityKeys = CapabilityKeys()  # noqa: RUF009
        conic_fov: bool = key(False, "agents see and shoot in a cone, which they turn")
        num_fov_actions: int = key(12, "directions of the cone", "directions", low=1, high=K)
        use_unit_ranges: bool = key(False, "sight and shooting range depend on the unit type")
        min_attack_range: float = key(2, "least shooting range, with use_unit_ranges", "map units", low=0, high=32)
        kill_unit_step_mul: int = key(
            2, "of a step's game loops, those after agents are killed by their health level", LOOPS, low=0, high=K
        )
        fully_observable: bool = key(False, "units are observed at any distance")
        prob_obs_enemy: float = key(
            1.0, "with version=head: chance to be told of an enemy that another agent sees first", low=0, high=1
        )
        action_mask: bool = key(True, "only enemies in reach can be attacked; False needs version=head")
        obs_own_pos: bool = key(False, "observe one's own place")
        obs_starcraft: bool = key(True, "observe anything but the time")

    def __new__(cls, engine: str = "auto", **env_args: Any) -> MultiAgentEnv:  # type: ignore[misc]
        _check_engine(engine)
        return _environment_class()(**env_args)

    @staticmethod
    def conflict(values: Config, kinds: dict[str, type]) -> str:
        """Returns a sentence about arguments that can't be, or not together, or nothing."""
        env_args = unflattened(values)["env_args"]
        try:
            checked(env_args["map_name"], env_args["capability_config"], env_args, env_args["version"])
        except UserError as mistake:
            return str(mistake)
        return conflict(values)

    @staticmethod
    def resolve(engine: str = "auto", **env_args: Any) -> str:
        _check_engine(engine)
        check_enemies(env_args.get("enemy", BOT), env_args.get("test_enemies"))
        return "sim"

    @staticmethod
    def describe(version: str = "before_epo", **env_args: Any) -> Info:
        return {"engine_version": ENGINE_VERSION, "smacv2_version": f"{version}: {VERSIONS[version]}"}

    @staticmethod
    def vector(
        seeds: Sequence[int],
        engine: str = "auto",
        *,
        workers: WorkerLimits | None = None,
        parallel: bool = True,
        **env_args: Any,
    ) -> VectorEnv:
        """Returns an environment of one world per seed; all are played in this process."""
        _check_engine(engine)
        return _environment_class().vector(seeds, **env_args)


def _check_engine(engine: str) -> None:
    if engine not in ENGINES:
        raise UserError(
            f"env_args.engine is {engine!r}; SMACv2 is played on the embedded engine, so it must be one of "
            f"{', '.join(ENGINES)}"
        )


def _environment_class() -> type[MultiAgentEnv]:
    from envs.sc2.sim.smacv2.smacv2 import StarCraft2Env as Embedded

    return Embedded
