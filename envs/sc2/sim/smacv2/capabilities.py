"""What SMACv2 draws for an episode: teams, places, chances to hit, health levels and masks, under its own names.

Distributions are drawn from NumPy generators that the caller gives, one for each generator that SMACv2 makes for
itself, in the order in which it makes them (they may all be the same), and from one of Python's.

Published: Ellis et al., "SMACv2: An Improved Benchmark for Cooperative Multi-Agent Reinforcement Learning" (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from itertools import combinations_with_replacement
from random import Random
from typing import Any, ClassVar, NamedTuple

import numpy as np

from envs.sc2.sim.maps import MOST_UNITS
from envs.sc2.sim.smacv2.races import API_NAMES, Race
from utils.errors import UserError, unknown

Generators = Sequence[np.random.Generator]

CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))
"""South-west, north-west, north-east, south-east, as shares of the map's width and height."""
GAP = 2
"""How far before the map's centre the enemies around it end."""
SET_BY_THE_WRAPPER = ("env_key", "n_units", "n_enemies")
"""Of each distribution in a capability configuration: SMACv2 overwrites them, so what stands there means nothing."""


class Places(NamedTuple):
    """Where the units are created, in the order of the teams' lists."""

    allies: np.ndarray  # float64 [agent, (x, y)]
    enemies: np.ndarray  # float64 [enemy, (x, y)]


class Teams(NamedTuple):
    """Names of unit types."""

    allies: list[str]
    enemies: list[str]


# ------------------------------------------------------------------------------------------------ teams


@dataclass(frozen=True)
class WeightedTeams:
    """Units by weight, drawn anew while all are exceptions; enemies copy the allies, extra ones are drawn apart."""

    unit_types: tuple[str, ...]
    weights: tuple[float, ...]
    exception_unit_types: tuple[str, ...] = ()
    observe: bool = False

    def mistake(self, n_units: int, race: Race) -> str:
        """Returns what is wrong with it, or nothing."""
        if len(self.weights) != len(self.unit_types):
            return f"has {len(self.weights)} weights for {len(self.unit_types)} unit_types; give one each"
        if any(weight < 0 for weight in self.weights):
            return f"has weights {list(self.weights)}; none may be below 0"
        if self.weights and not math.isclose(sum(self.weights), 1, abs_tol=1e-8):
            return f"has weights {list(self.weights)}, which sum to {sum(self.weights):g}; they must sum to 1"
        possible = {name for name, weight in zip(self.unit_types, self.weights) if weight > 0}
        return _mistake_in_types(self.unit_types, self.exception_unit_types, possible, race)

    def n_generators(self, n_units: int, n_enemies: int) -> int:
        return 1

    def draw(self, n_units: int, n_enemies: int, generators: Generators, shuffler: Random) -> Teams:
        allies = self._team(n_units, generators[0], shuffler)
        more = self._team(n_enemies - n_units, generators[0], shuffler) if n_enemies > n_units else []
        return Teams(allies, (allies + more)[:n_enemies])

    @cached_property
    def _bounds(self) -> np.ndarray:
        bounds = np.cumsum(self.weights)
        return bounds / bounds[-1]

    def _team(self, n_units: int, generator: np.random.Generator, shuffler: Random) -> list[str]:
        while True:  # what NumPy's `choice` with weights does, without its checks
            drawn = self._bounds.searchsorted(generator.random(n_units), side="right")
            team = [self.unit_types[index] for index in drawn.tolist()]
            shuffler.shuffle(team)
            if not set(self.exception_unit_types).issuperset(team):
                return team


@dataclass(frozen=True)
class AllTeams:
    """Every multiset of units is equally likely, but for those of exceptions only; both sides have the same team."""

    unit_types: tuple[str, ...]
    exception_unit_types: tuple[str, ...] = ()
    observe: bool = False

    def mistake(self, n_units: int, race: Race) -> str:
        """Returns what is wrong with it, or nothing."""
        if (count := math.comb(len(self.unit_types) + n_units - 1, n_units)) > 1e6:
            return f"has {count:,} teams of {n_units} to draw from; take weighted_teams"
        return _mistake_in_types(self.unit_types, self.exception_unit_types, set(self.unit_types), race)

    def n_generators(self, n_units: int, n_enemies: int) -> int:
        return 0  # it draws by the shuffler

    def draw(self, n_units: int, n_enemies: int, generators: Generators, shuffler: Random) -> Teams:
        teams = list(combinations_with_replacement(self.unit_types, n_units))
        while True:
            team = list(shuffler.choice(teams))
            shuffler.shuffle(team)
            if not set(self.exception_unit_types).issuperset(team):
                return Teams(team, list(team))


def _mistake_in_types(names: Sequence[str], exceptions: Sequence[str], possible: set[str], race: Race) -> str:
    known = [API_NAMES[name] for name in race.type_names]
    for name in (*names, *exceptions):
        if name not in known:
            return "has an " + unknown("unit type", name, known)
    if len(set(names)) < len(names):
        return f"has unit_types {list(names)}, one of them twice; give each once"
    return "" if possible - {*exceptions} else "draws no unit that is not in exception_unit_types; leave one out there"


# ------------------------------------------------------------------------------------------------ places


@dataclass(frozen=True)
class Surrounded:
    """All allies in the centre; the enemies in up to four groups on the diagonals."""

    map_x: float = 32
    map_y: float = 32

    def mistake(self, n_units: int, race: Race) -> str:
        return _mistake_in_size(self.map_x, self.map_y)

    def n_generators(self, n_units: int, n_enemies: int) -> int:
        return 1

    def draw(self, n_units: int, n_enemies: int, generators: Generators) -> Places:
        generator, x, y = generators[0], self.map_x / 2, self.map_y / 2
        n_groups = int(generator.integers(1, 5))
        sizes = generator.multinomial(n_enemies, [1 / n_groups] * n_groups).tolist()
        shares = generator.random(n_groups).tolist()
        enemies = []
        for size, t, corner in zip(sizes, shares, generator.choice(4, n_groups, replace=False).tolist()):
            east, north = CORNERS[corner]
            near_x, near_y = x + GAP * (2 * east - 1), y + GAP * (2 * north - 1)
            point = (t * near_x + (1 - t) * east * self.map_x, t * near_y + (1 - t) * north * self.map_y)
            enemies += [point] * size
        return Places(np.array([(x, y)] * n_units), np.array(enemies))


@dataclass(frozen=True)
class ReflectPosition:
    """Allies anywhere in the west, each enemy as far in the east; extra enemies anywhere there."""

    map_x: float = 32
    map_y: float = 32

    def mistake(self, n_units: int, race: Race) -> str:
        return _mistake_in_size(self.map_x, self.map_y)

    def n_generators(self, n_units: int, n_enemies: int) -> int:
        return 1 + (n_enemies > n_units)

    def draw(self, n_units: int, n_enemies: int, generators: Generators) -> Places:
        allies = generators[0].random((n_units, 2)) * (self.map_x / 2 - 1, self.map_y)
        enemies = allies[:n_enemies].copy()
        enemies[:, 0] = self.map_x - enemies[:, 0]
        if n_enemies > n_units:
            extra = generators[1].random((n_enemies - n_units, 2)) * (self.map_x / 2, self.map_y)
            enemies = np.concatenate([enemies, extra + (self.map_x / 2, 0)])
        return Places(allies, enemies)


@dataclass(frozen=True)
class SurroundedAndReflect:
    """With the chance `p` ReflectPosition, else Surrounded."""

    p: float
    map_x: float = 32
    map_y: float = 32

    def mistake(self, n_units: int, race: Race) -> str:
        wrong = "" if 0 <= self.p <= 1 else f"has p={self.p:g}; it is a chance from 0 to 1"
        return wrong or _mistake_in_size(self.map_x, self.map_y)

    def n_generators(self, n_units: int, n_enemies: int) -> int:
        return 3 + (n_enemies > n_units)

    def draw(self, n_units: int, n_enemies: int, generators: Generators) -> Places:
        if generators[-1].random() > self.p:
            return Surrounded(self.map_x, self.map_y).draw(n_units, n_enemies, generators[:1])
        return ReflectPosition(self.map_x, self.map_y).draw(n_units, n_enemies, generators[1:])


def _mistake_in_size(map_x: float, map_y: float) -> str:
    sizes = 6 <= map_x <= 32 and 6 <= map_y <= 32
    return "" if sizes else f"has map_x={map_x:g} and map_y={map_y:g}; the map is 32 by 32, give 6 to 32"


def without_start_positions(n_units: int, n_enemies: int) -> Places:
    """Returns where SMACv2 creates the units if the configuration draws no places."""
    return Places(np.tile((8.0, 16.0), (n_units, 1)), np.tile((24.0, 16.0), (n_enemies, 1)))


# ------------------------------------------------------------------------------------------------ numbers


@dataclass(frozen=True)
class PerAgentUniform:
    """A number for each agent, uniform between two bounds."""

    lower_bound: tuple[float, ...]
    upper_bound: tuple[float, ...]
    observe: bool = False

    def mistake(self, n_units: int, race: Race) -> str:
        """Returns what is wrong with it, or nothing."""
        if len(self.lower_bound) != 1 or len(self.upper_bound) != 1:
            return f"has bounds {list(self.lower_bound)} and {list(self.upper_bound)}; give one number each, as a list"
        if not 0 <= self.lower_bound[0] <= self.upper_bound[0] <= 1:
            return f"has bounds {self.lower_bound[0]:g} and {self.upper_bound[0]:g}; they must rise from 0 to 1"
        return ""

    def n_generators(self, n_units: int, n_enemies: int) -> int:
        return 1

    def draw(self, n_units: int, n_enemies: int, generators: Generators) -> np.ndarray:
        """Returns [agent, 1]."""
        return generators[0].uniform(self.lower_bound, self.upper_bound, (n_units, len(self.lower_bound)))


@dataclass(frozen=True)
class HealthLevels(PerAgentUniform):
    """The share of its health, below 1, at which each agent dies."""

    def mistake(self, n_units: int, race: Race) -> str:
        begins_dead = "has lower_bound=[1], so that agents begin dead; give less than 1" * (self.lower_bound == (1,))
        return super().mistake(n_units, race) or begins_dead


@dataclass(frozen=True)
class Mask:
    """Which agents see an enemy's health, shield and type: where it is 0, which has the chance `mask_probability`."""

    mask_probability: float

    def mistake(self, n_units: int, race: Race) -> str:
        chance = 0 <= self.mask_probability <= 1
        return "" if chance else f"has mask_probability={self.mask_probability:g}; it is a chance from 0 to 1"

    def n_generators(self, n_units: int, n_enemies: int) -> int:
        return 1

    def draw(self, n_units: int, n_enemies: int, generators: Generators) -> np.ndarray:
        """Returns int64 [agent, enemy]."""
        chances = (self.mask_probability, 1 - self.mask_probability)
        return generators[0].choice(2, (n_units, n_enemies), p=chances)


# ------------------------------------------------------------------------------------------------ configuration


class Draws(NamedTuple):
    """All that is drawn for one episode."""

    teams: Teams
    places: Places
    attack: np.ndarray | None  # [agent] by agent id: the chance that an attack is carried out
    health: np.ndarray | None  # [agent] by agent id: the share of its health below which an agent dies
    enemy_mask: np.ndarray | None  # [agent, enemy]: 0 where the enemy's health and type are shown


class Capabilities:
    """SMACv2's `capability_config`, checked: {n_units, n_enemies, <key>: {dist_type, ...}, ...}.

    Raises: UserError for the first mistake in it.
    """

    DISTRIBUTIONS: ClassVar[dict[str, dict[str, Any]]] = {
        "team_gen": {"weighted_teams": WeightedTeams, "all_teams": AllTeams},
        "start_positions": {
            "surrounded_and_reflect": SurroundedAndReflect,
            "surrounded": Surrounded,
            "reflect_position": ReflectPosition,
        },
        "attack": {"per_agent_uniform": PerAgentUniform},
        "health": {"per_agent_uniform": HealthLevels},
        "enemy_mask": {"mask": Mask},
    }

    def __init__(self, config: Mapping[str, Any], race: Race):
        for name in config:
            if name not in ("n_units", "n_enemies", *self.DISTRIBUTIONS):
                known = ("n_units", "n_enemies", *self.DISTRIBUTIONS)
                raise UserError(f"env_args.capability_config: {unknown('key', name, known)}")
        self.n_units, self.n_enemies = (_read_size(config, name) for name in ("n_units", "n_enemies"))
        self.distributions = {
            key: self._read(key, config[key], race) for key in config if key in self.DISTRIBUTIONS and config[key]
        }
        if "team_gen" not in self.distributions:
            raise UserError(
                "env_args.capability_config lacks team_gen, without which there are no units; give its dist_type, "
                "unit_types and weights, or take a scenario such as map_name=terran_5_vs_5"
            )
        if isinstance(self.distributions["team_gen"], AllTeams) and self.n_units != self.n_enemies:
            raise UserError(
                f"all_teams gives both sides the same team, but n_units={self.n_units} and n_enemies={self.n_enemies}; "
                "give them the same number, or take weighted_teams"
            )

    def _read(self, key: str, given: Mapping[str, Any], race: Race) -> Any:
        where = f"env_args.capability_config.{key}"
        if given.get("dist_type") not in self.DISTRIBUTIONS[key]:
            raise UserError(f"{where}: {unknown('dist_type', str(given.get('dist_type')), self.DISTRIBUTIONS[key])}")
        kind = self.DISTRIBUTIONS[key][given["dist_type"]]
        values = {name: value for name, value in given.items() if name not in ("dist_type", *SET_BY_THE_WRAPPER)}
        known = [one.name for one in fields(kind)]
        for name in values:
            if name not in known:
                raise UserError(f"{where}: {unknown('key', name, known)}")
        for one in fields(kind):
            if one.name not in values and one.default is MISSING:
                raise UserError(f"{where} lacks {one.name}, which {given['dist_type']} needs")
        made = kind(**{name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in values.items()})
        if mistake := made.mistake(self.n_units, race):
            raise UserError(f"{where} {mistake}")
        return made

    def observes(self, key: str) -> bool:
        """Whether agents see each other's value of this key; False where nothing is drawn for it."""
        return key in self.distributions and self.distributions[key].observe

    def generators(self, make: Callable[[], np.random.Generator]) -> dict[str, list[np.random.Generator]]:
        """Returns those that the distributions need, by key, made in SMACv2's order."""
        sizes = self.n_units, self.n_enemies
        return {key: [make() for _ in range(one.n_generators(*sizes))] for key, one in self.distributions.items()}

    def draw(self, generators: Mapping[str, Generators], shuffler: Random) -> Draws:
        """Returns one episode's draws, in the order of the configuration's keys."""
        sizes = self.n_units, self.n_enemies
        drawn: dict[str, Any] = {}
        for key, one in self.distributions.items():
            more = (shuffler,) if key == "team_gen" else ()
            drawn[key] = one.draw(*sizes, generators[key], *more)
        return Draws(
            drawn["team_gen"],
            drawn["start_positions"] if "start_positions" in drawn else without_start_positions(*sizes),
            drawn["attack"][:, 0] if "attack" in drawn else None,
            drawn["health"][:, 0] if "health" in drawn else None,
            drawn.get("enemy_mask"),
        )


def _read_size(config: Mapping[str, Any], name: str) -> int:
    n = config.get(name)
    if not isinstance(n, int) or n < 1:
        raise UserError(f"env_args.capability_config.{name} is {n!r}; it must be a whole number from 1 on")
    if n > MOST_UNITS:
        raise UserError(
            f"env_args.capability_config.{name}={n} are more units than the map has room for; give at most {MOST_UNITS}"
        )
    return n
