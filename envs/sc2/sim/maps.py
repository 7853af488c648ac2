"""What a map is, and the SMAC maps, read from `data/maps.json`; `envs/sc2/own_maps.py` reads maps of one's own.

`units.py` has the unit types, `terrain.py` reads the ground.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from envs.sc2.sim.terrain import height_grid, layer_grid, pathing_grid
from envs.sc2.sim.units import layer, unit_data

AGENT_TYPE_ORDER = (
    "Baneling", "Colossus", "Hydralisk", "Marauder", "Marine", "Medivac", "SpineCrawler", "Stalker", "Zealot",
    "Zergling",
)  # fmt: skip
"""The agents' unit types in the order of their ids in the maps' catalogues, which is alphabetical."""

ENEMY_TYPE_INDEX = {
    "stalkers_and_zealots": {"Zealot": 0, "Stalker": 1},  # the other way round than the agents': SMAC's own quirk
    "colossi_stalkers_zealots": {"Colossus": 0, "Stalker": 1, "Zealot": 2},
    "MMM": {"Marauder": 0, "Marine": 1, "Medivac": 2},
    "bane": {"Baneling": 0, "Zergling": 1},
}


OWN = "own"
"""The `map_type` of a map of one's own: the types of both sides are numbered together, by the alphabet."""

PLAYABLE_AREA = 28.0
"""Width and height by which SMAC divides positions in the state: the map less its border of two cells."""

MAP_FILES = (".yaml", ".yml", ".json")
"""How the names of files end that hold a map of one's own."""

MOST_UNITS = 64
"""Of a side: a colossus's beams count their victims in so many bits."""


class Spawn(NamedTuple):
    """One creation call of the map: `n_units` of a type at a point."""

    n_units: int
    type_name: str
    point: tuple[float, float]


class Placement(NamedTuple):
    """How the units of a map of one's own stand: (type, x, y) of each, agents by agent id, enemies as created."""

    allies: list[tuple[str, float, float]]
    enemies: list[tuple[str, float, float]]
    areas: np.ndarray | None
    """float64 [unit, (west, south, east, north)]: whoever has an area stands anywhere in it, anew in every episode, and
    whoever has none, not a number, stays. None: all stay."""


class SC2Map(NamedTuple):
    """One map. Agents are listed by agent id (type, then x, y), enemies in the order of their creation."""

    name: str
    episode_limit: int
    map_type: str
    unit_type_bits: int
    ally_race: str
    enemy_race: str
    ally_types: list[str]
    enemy_types: list[str]
    ally_spawns: list[Spawn]
    enemy_spawns: list[Spawn]
    enemy_order: dict[str, Any]
    pathing: np.ndarray  # bool [x, y]
    grid: np.ndarray  # uint8 [x, y], terrain.layer_grid
    heights: np.ndarray  # float64 [x, y], 0..1

    playable: tuple[float, float] = (PLAYABLE_AREA, PLAYABLE_AREA)
    placement: Placement | None = None  # of a map of one's own
    content: dict[str, Any] | None = None  # of a map of one's own: from which it can be made again

    @property
    def n_agents(self) -> int:
        return len(self.ally_types)

    @property
    def n_enemies(self) -> int:
        return len(self.enemy_types)

    @property
    def type_names(self) -> list[str]:
        """The unit types of both sides, in the order of `type` in records.UNIT."""
        return sorted({*self.ally_types, *self.enemy_types})

    @property
    def ally_type_index(self) -> list[int]:
        """Position of each agent's type in its one-hot."""
        here = self.type_names if self.map_type == OWN else set(self.ally_types)
        present = sorted(here, key=AGENT_TYPE_ORDER.index)
        return [present.index(name) for name in self.ally_types]

    @property
    def enemy_type_index(self) -> list[int]:
        """Position of each enemy's type in its one-hot."""
        index = ENEMY_TYPE_INDEX.get(self.map_type, {})
        if self.map_type == OWN:
            index = {name: k for k, name in enumerate(sorted(self.type_names, key=AGENT_TYPE_ORDER.index))}
        return [index.get(name, 0) for name in self.enemy_types]

    def from_other_side(self) -> Self:
        """The map on which the enemies are the agents: mirrored from east to west, so that they come from the west."""
        return self._replace(
            ally_race=self.enemy_race,
            enemy_race=self.ally_race,
            ally_types=sorted(self.enemy_types, key=AGENT_TYPE_ORDER.index),
            enemy_types=self.ally_types,
            ally_spawns=self.enemy_spawns,
            enemy_spawns=self.ally_spawns,
            pathing=self.pathing[::-1].copy(),
            grid=self.grid[::-1].copy(),
            heights=self.heights[::-1].copy(),
        )


@cache
def map_data() -> dict[str, dict[str, Any]]:
    """The raw data of every map by name."""
    return json.loads((Path(__file__).parent / "data" / "maps.json").read_text())


MAP_NAMES = tuple(map_data())


def is_map_file(name: str) -> bool:
    return name.endswith(MAP_FILES)


class NamesAndFiles(tuple[str, ...]):
    """The names of maps, among which any file may stand that could hold one."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and is_map_file(name))


NAMES_AND_FILES = NamesAndFiles(MAP_NAMES)


@cache
def get_map(name: str) -> SC2Map:
    """The map of this name.

    Raises: KeyError where there is none.
    """
    data = map_data()[name]
    pathing = pathing_grid(data["pathing"])
    return SC2Map(
        name=name,
        episode_limit=data["episode_limit"],
        map_type=data["map_type"],
        unit_type_bits=data["unit_type_bits"],
        ally_race=data["a_race"],
        enemy_race=data["b_race"],
        ally_types=[type_name for count, type_name in data["ally_units"] for _ in range(count)],
        enemy_types=[type_name for count, type_name in data["enemy_units"] for _ in range(count)],
        ally_spawns=[Spawn(count, type_name, tuple(point)) for count, type_name, point in data["ally_spawns"]],
        enemy_spawns=[Spawn(count, type_name, tuple(point)) for count, type_name, point in data["enemy_spawns"]],
        enemy_order=data["enemy_order"],
        pathing=pathing,
        grid=layer_grid(pathing, data["cliff_levels"]),
        heights=height_grid(data["cliff_levels"]),
    )


OVERLAP = 252 / 4096
"""By how much units that are created side by side may overlap."""


class Start(NamedTuple):
    """One way in which a side may come to stand: (type, x, y) of every unit in the order of creation."""

    units: list[tuple[str, float, float]]
    probability: float


def starts(spawns: list[Spawn], grid: np.ndarray, side: str) -> list[Start]:
    """How the units of one side, "agents" or "enemies", may come to stand; grid [x, y] of terrain.layer_grid.

    It is as `spawn_positions` has it, or as recorded battles of this army show some of its units (`data/starts.json`).
    """
    ways = [Start(spawn_positions(spawns, grid), 1.0)]
    army = ", ".join(f"{spawn.n_units} {spawn.type_name}" for spawn in spawns)
    if len({spawn.point for spawn in spawns}) > 1:
        return ways
    x, y = spawns[0].point
    for unit, places in recorded_starts()[side].get(army, {}).items():
        k, n_battles = int(unit), sum(battles for _, _, battles in places)
        ways = [
            Start(
                [*units[:k], (units[k][0], x + dx, y + dy), *units[k + 1 :]],
                probability * battles / n_battles,
            )
            for units, probability in ways
            for dx, dy, battles in places
        ]
    return ways


@cache
def recorded_starts() -> dict[str, dict[str, dict[str, list[tuple[float, float, int]]]]]:
    """By side, by army, by unit in the order of creation: the offsets (x, y) from the spawn point at which recorded
    battles begin, each with the number of battles."""
    return json.loads((Path(__file__).parent / "data" / "starts.json").read_text())


def spawn_positions(spawns: list[Spawn], grid: np.ndarray) -> list[tuple[str, float, float]]:
    """(type, x, y) of every unit in the order of creation, as the game places units that are created at one point.

    The first unit stands on the point. The others take the nearest free places of a grid around it whose spacing is
    their diameter (on its axes, their radius), those equally near counter-clockwise from the south; then those that
    have only the first unit before them move up to it. Units of other layers are in nobody's way.
    """
    placed: list[tuple[float, float, float, int]] = []
    result = []
    for spawn in spawns:
        radius, spawn_layer = unit_data()[spawn.type_name]["radius"], layer(spawn.type_name)
        free = grid >> spawn_layer & 1 == 1
        places = iter(_places(spawn.point, radius, free))
        for _ in range(spawn.n_units):
            others = np.array([unit[:3] for unit in placed if unit[3] == spawn_layer]).reshape(-1, 3)
            x, y = next(place for place in places if _has_room(place, radius, others, 2 * OVERLAP))
            x, y = _moved_up((x, y), spawn.point, radius, others)
            placed.append((x, y, radius, spawn_layer))
            result.append((spawn.type_name, x, y))
    return result


def _places(point: tuple[float, float], radius: float, free: np.ndarray) -> list[tuple[float, float]]:
    """The free points of the grid, in the order in which they are tried."""
    dx, dy = lattice().T
    x, y = point[0] + dx * radius, point[1] + dy * radius
    inside = (x >= 0) & (y >= 0) & (x < free.shape[0]) & (y < free.shape[1])
    x, y = x[inside], y[inside]
    possible = free[x.astype(int), y.astype(int)]
    return list(zip(x[possible].tolist(), y[possible].tolist(), strict=True))


@cache
def lattice() -> np.ndarray:
    """int64 [point, (x, y)]: the grid around a spawn point, in radii, in the order in which its points are tried."""
    steps = np.arange(-48, 49)
    dx, dy = (offsets.ravel() for offsets in np.meshgrid(steps, steps, indexing="ij"))
    used = ((dx % 2 == 0) & (dy % 2 == 0)) | ((dx * dy == 0) & (abs(dx + dy) > 2))
    dx, dy = dx[used], dy[used]
    angle = np.round(np.arctan2(dy, dx) + np.pi / 2, 9) % np.round(2 * np.pi, 9)
    quarter = np.floor(angle / (np.pi / 2) + 1e-6)
    order = np.lexsort((quarter, np.round(angle - quarter * np.pi / 2, 6), dx * dx + dy * dy))
    return np.stack([dx[order], dy[order]], axis=1)


def _has_room(place: tuple[float, float], radius: float, others: np.ndarray, overlap: float) -> bool:
    gaps = np.hypot(place[0] - others[:, 0], place[1] - others[:, 1]) - others[:, 2] - radius
    return bool((gaps >= -overlap - 1e-9).all())


def _moved_up(
    place: tuple[float, float], point: tuple[float, float], radius: float, others: np.ndarray
) -> tuple[float, float]:
    """The place moved straight towards the point until it touches the first unit, unless another is in the way."""
    dx, dy = place[0] - point[0], place[1] - point[1]
    distance = np.hypot(dx, dy)
    if not len(others) or distance == 0 or np.hypot(*(others[0, :2] - point)) > 0:
        return place
    scale = (radius + others[0, 2] - OVERLAP) / distance
    moved = (float(point[0] + scale * dx), float(point[1] + scale * dy))
    return moved if scale < 1 and _has_room(moved, radius, others, OVERLAP) else place
