"""Battles drawn for tests: units stand where a test puts them, on open ground or between drawn walls."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim import env as sim
from envs.sc2.sim.maps import Spawn, Start, get_map
from envs.sc2.sim.rules import Rules
from envs.sc2.sim.units import AIR, CLIFF, GROUND, unit_data

Point = tuple[float, float]
STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6  # ATTACK + k: enemy k; of a medivac: heal agent k
RULES: dict[str, Any] = {  # whatever the engine's defaults are
    "enemy_list": "created",
    "spawn_age_loops": 0,
    "scan_period_loops": 1,
    "passing_side": "right",
}
OPEN_GROUND = np.ones((32, 32), bool)
TYPE_OF_LETTER = {
    "m": "Marine",
    "r": "Marauder",
    "d": "Medivac",
    "s": "Stalker",
    "z": "Zealot",
    "c": "Colossus",
    "l": "Zergling",
    "b": "Baneling",
    "h": "Hydralisk",
    "p": "SpineCrawler",
}


class Scene:
    """One battle, from the moment of creation."""

    def __init__(
        self,
        allies: list[Point],
        enemies: list[Point],
        pathing: np.ndarray = OPEN_GROUND,
        cliffs: np.ndarray | bool = False,
        enemy_goal: Point | None = None,
        ally_type: str | list[str] = "Marine",
        enemy_type: str | list[str] = "Marine",
        ally_health: float | list[float] | None = None,
        enemy_health: float | list[float] | None = None,
        seed: int = 0,
        rules: dict[str, Any] | None = None,
        turns: bool = False,
        enemy_policy: Any = None,
        **options: Any,
    ):
        """Types: of all units of the side, or of each; units of one type stand one after the other.

        pathing [x, y]: where everybody may be; cliffs [x, y]: where colossi may be, too; flyers may be anywhere.
        `enemy_goal`: the point that the enemies march to; None: they stand. Health: None is what the type has.
        `turns`: whether turning to a target takes time. `enemy_policy`: plays the enemy that is named `enemy`.
        """
        ally_types = [ally_type] * len(allies) if isinstance(ally_type, str) else ally_type
        enemy_types = [enemy_type] * len(enemies) if isinstance(enemy_type, str) else enemy_type
        assert ally_types == sorted(ally_types, key=ally_types.index), "units of one type stand one after the other"
        if "Medivac" in ally_types:  # else there is no action for some agent to be healed: on no map is it so
            assert set(ally_types[len(enemies) :]) <= {"Medivac"}, "as many enemies as agents that can be healed"
        order = {"kind": "none"} if enemy_goal is None else {"kind": "attack_move_to_point", "point": enemy_goal}
        n_types = len(set(ally_types))
        drawn = get_map("3m")._replace(
            name="scene",
            map_type="MMM" if "Medivac" in ally_types else "marines",
            unit_type_bits=max(n_types * (n_types > 1), 3 * ("Medivac" in ally_types)),
            ally_types=ally_types,
            enemy_types=enemy_types,
            ally_race=_race(ally_types),
            enemy_race=_race(enemy_types),
            ally_spawns=[Spawn(1, *unit) for unit in zip(ally_types, allies)],
            enemy_spawns=[Spawn(1, *unit) for unit in zip(enemy_types, enemies)],
            enemy_order=order,
            pathing=np.ascontiguousarray(pathing),
            grid=(pathing << GROUND | (pathing | cliffs) << CLIFF | np.ones_like(pathing) << AIR).astype(np.uint8),
        )
        rules = RULES | (rules or {})
        with patch.multiple(sim, MAP_NAMES=("scene",), get_map=lambda name: drawn, starts=_starts):
            self.battle = sim.BattleVectorEnv([seed], map_name="scene", rules=Rules(**rules), **options)
        if enemy_policy is not None:
            self.battle.seat_enemies({options["enemy"]: lambda number: ({}, enemy_policy)})
        if not turns:
            self.battle.types["turn"] = 0
        fresh = self.battle._fresh_units[0]
        fresh["x"], fresh["y"] = fresh["home_x"], fresh["home_y"] = np.transpose(allies + enemies)
        if enemy_goal is not None:  # no formation, so that scenes can be drawn
            fresh["goal_x"][len(allies) :], fresh["goal_y"][len(allies) :] = enemy_goal
        if ally_health is not None:
            fresh["health"][: len(allies)] = ally_health
        if enemy_health is not None:
            fresh["health"][len(allies) :] = enemy_health
        self.seen = Observations.empty(1, self.battle.get_env_info())
        self.outcomes = Outcomes.empty(1, self.battle.info_keys)
        self.battle.reset(self.seen)

    @property
    def units(self) -> np.ndarray:
        """Everybody's records, to read and to write; the agents' first."""
        return self.battle.units[0]

    @property
    def allies(self) -> np.ndarray:
        return self.units[: self.battle.map.n_agents]

    @property
    def enemies(self) -> np.ndarray:
        return self.units[self.battle.map.n_agents :]

    def order(self, *actions: int) -> None:
        """Gives the agents' orders, available or not, and lets no time pass."""
        allowed = np.ones((1, len(actions), 100), np.uint8)
        worlds, battle = np.ones(1, bool), self.battle
        sim.dynamics.give_orders(battle.units, np.array([actions]), allowed, worlds, battle.move_amount, battle.types)

    def loop(self, n_loops: int = 1) -> None:
        """Plays game loops without new orders."""
        self.battle._play(np.ones(1, bool), n_loops)

    def step(self, *actions: int) -> float:
        """Plays one environment step; gives the reward."""
        self.battle.step(np.array([actions]), self.seen, self.outcomes)
        return float(self.outcomes.reward[0])

    @property
    def is_over(self) -> bool:
        return bool(self.outcomes.terminated[0] or self.outcomes.truncated[0])


def _starts(spawns: list[Spawn], *_: Any) -> list[Start]:
    return [Start([(spawn.type_name, *spawn.point) for spawn in spawns], 1.0)]


def _race(type_names: list[str]) -> str:
    """As far as it matters: P for whoever has shields."""
    return "P" if any(unit_data()[name]["shield"] for name in type_names) else "T"


def draw(picture: str, **arguments: Any) -> Scene:
    """A scene from rows, the northern one first: small letters of TYPE_OF_LETTER for agents, capital ones for enemies,
    `.` ground, `X` wall, `#` cliff; units stand amid cells and count as they are listed there, then by x and y."""
    rows = picture.split()[::-1]
    cells = np.array([list(row) for row in rows]).T
    points: list[list[Point]] = []
    types: list[list[str]] = []
    for letters in (TYPE_OF_LETTER, {letter.upper(): name for letter, name in TYPE_OF_LETTER.items()}):
        found = [(name, (x + 0.5, y + 0.5)) for mark, name in letters.items() for x, y in np.argwhere(cells == mark)]
        types.append([name for name, point in found])
        points.append([point for name, point in found])
    pathing = ~np.isin(cells, ("X", "#"))
    arguments |= {"ally_type": types[0], "enemy_type": types[1], "cliffs": cells == "#"}
    return Scene(*points, pathing=pathing, **arguments)


def losses(scene: Scene, victim: np.ndarray, n_loops: int) -> list[tuple[int, float]]:
    """(loop, what the unit loses of health and shield in it) for those of the next loops in which it is hurt."""
    result = []
    for n in range(1, n_loops + 1):
        before = float(victim["health"] + victim["shield"])
        scene.loop()
        lost = before - float(victim["health"] + victim["shield"])
        if lost > 0:
            result.append((n, lost))
    return result


def loops_of_loss(scene: Scene, victim: np.ndarray, n_loops: int) -> list[int]:
    """In which of the next loops the unit loses health or shield."""
    return [loop for loop, _ in losses(scene, victim, n_loops)]


def edges_apart(gap: float, *type_names: str) -> float:
    """The distance from centre to centre of two units of these types whose edges are `gap` apart."""
    return gap + sum(unit_data()[name]["radius"] for name in type_names)


def largest_overlap(units: np.ndarray, layers: Sequence[int] | np.ndarray) -> float:
    """By how much two living units of one battle and layer are nearer to each other than the sum of their radii."""
    alive = units["health"] > 0
    units, layers = units[alive], np.asarray(layers)[alive]
    x, y, radius = units["x"], units["y"], units["separation_radius"]
    first, second = np.triu_indices(len(units), 1)
    gap = np.hypot(x[first] - x[second], y[first] - y[second]) - radius[first] - radius[second]
    return float(-gap[layers[first] == layers[second]].min(initial=0))


# Code behind `import numpy as np` and the import of BattleVectorEnv, for an interpreter that does not compile.
RECORDS_UNCOMPILED = """
init = BattleVectorEnv.__init__

def init_records(self, *args, **kwargs):  # uncompiled code reads the fields of records as attributes
    init(self, *args, **kwargs)
    for name in ("units", "types", "effects"):
        setattr(self, name, getattr(self, name).view(np.recarray))

BattleVectorEnv.__init__ = init_records
"""
