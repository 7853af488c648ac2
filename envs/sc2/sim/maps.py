"""The SMAC maps, read from `data/maps.json`: armies, spawn points, orders, terrain, limits.

`units.py` has the unit types, `terrain.py` reads the ground.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.sc2.sim.terrain import height_grid, layer_grid, pathing_grid
from envs.sc2.sim.units import layer, unit_data

AGENT_TYPE_ORDER = (
    "Baneling", "Colossus", "Hydralisk", "Marauder", "Marine", "Medivac", "Stalker", "Zealot", "Zergling",
)  # fmt: skip
"""The agents' unit types in the order of their ids in the maps' catalogues, which is alphabetical."""

ENEMY_TYPE_INDEX = {
    "stalkers_and_zealots": {"Zealot": 0, "Stalker": 1},  # the other way round than the agents': SMAC's own quirk
    "colossi_stalkers_zealots": {"Colossus": 0, "Stalker": 1, "Zealot": 2},
    "MMM": {"Marauder": 0, "Marine": 1, "Medivac": 2},
    "bane": {"Baneling": 0, "Zergling": 1},
}


class Spawn(NamedTuple):
    """One creation call of the map: `n_units` of a type at a point."""

    n_units: int
    type_name: str
    point: tuple[float, float]


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

    @property
    def n_agents(self) -> int:
        return len(self.ally_types)

    @property
    def n_enemies(self) -> int:
        return len(self.enemy_types)

    @property
    def ally_type_index(self) -> list[int]:
        """Position of each agent's type in its one-hot."""
        present = sorted(set(self.ally_types), key=AGENT_TYPE_ORDER.index)
        return [present.index(name) for name in self.ally_types]

    @property
    def enemy_type_index(self) -> list[int]:
        """Position of each enemy's type in its one-hot."""
        index = ENEMY_TYPE_INDEX.get(self.map_type, {})
        return [index.get(name, 0) for name in self.enemy_types]


@cache
def map_data() -> dict[str, dict[str, Any]]:
    """The raw data of every map by name."""
    return json.loads((Path(__file__).parent / "data" / "maps.json").read_text())


MAP_NAMES = tuple(map_data())


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


def spawn_positions(spawns: list[Spawn], lattice: str, grid: np.ndarray) -> list[tuple[str, float, float]]:
    """(type, x, y) of every unit in the order of creation; grid [x, y] of terrain.layer_grid.

    The first unit stands on its point, later ones at the nearest free place: on a grid around the point
    ("greedy"), or row by row in a square around it ("square", as SMAClite has it). Which places the game really takes
    is not known. Units of other layers are in nobody's way.
    """
    placed: list[tuple[float, float, float, int]] = []
    result = []
    for spawn in spawns:
        radius, spawn_layer = unit_data()[spawn.type_name]["separation_radius"], layer(spawn.type_name)
        others = [(x, y, r) for x, y, r, other_layer in placed if other_layer == spawn_layer]
        free = grid >> spawn_layer & 1 == 1
        places = {"greedy": _greedy_places, "square": _square_places}[lattice](spawn, radius, others, free)
        for x, y in places:
            placed.append((x, y, radius, spawn_layer))
            result.append((spawn.type_name, x, y))
    return result


Placed = list[tuple[float, float, float]]  # x, y, radius


def _greedy_places(spawn: Spawn, radius: float, placed: Placed, free: np.ndarray) -> list[tuple[float, float]]:
    """The nearest free points of a grid of spacing 1/4 around the spawn point; ties go counter-clockwise from east."""
    steps = np.arange(-48, 49) / 4
    dx, dy = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    order = np.lexsort((np.round(np.arctan2(dy, dx) % (2 * np.pi), 6), np.round(np.hypot(dx, dy), 6)))
    x, y = spawn.point[0] + dx[order], spawn.point[1] + dy[order]
    inside = (x >= 0) & (y >= 0) & (x < free.shape[0]) & (y < free.shape[1])
    x, y = x[inside], y[inside]
    possible = free[x.astype(int), y.astype(int)]
    for other_x, other_y, other_radius in placed:
        possible &= np.hypot(x - other_x, y - other_y) >= radius + other_radius
    places = []
    for _ in range(spawn.n_units):
        first = int(np.argmax(possible))
        places.append((float(x[first]), float(y[first])))
        possible &= np.hypot(x - x[first], y - y[first]) >= 2 * radius
    return places


def _square_places(spawn: Spawn, radius: float, placed: Placed, free: np.ndarray) -> list[tuple[float, float]]:
    """A square block centred on the spawn point with gaps of 0.05; later spawns at the same point follow behind it.
    Whoever would stand in a wall takes the nearest free place."""
    side = int(np.ceil(np.sqrt(spawn.n_units)))
    gap = 2 * radius + 0.05
    behind = max(
        (
            y + other_radius - spawn.point[1]
            for x, y, other_radius in placed
            if np.hypot(x - spawn.point[0], y - spawn.point[1]) < 6
        ),
        default=None,
    )
    offset = -(side - 1) / 2 * gap if behind is None else behind + radius + 0.05
    block = [
        (spawn.point[0] + (k % side - (side - 1) / 2) * gap, spawn.point[1] + offset + k // side * gap)
        for k in range(spawn.n_units)
    ]
    block = [(x, y) for x, y in block if free[int(x), int(y)]]
    taken = placed + [(x, y, radius) for x, y in block]
    return block + _greedy_places(spawn._replace(n_units=spawn.n_units - len(block)), radius, taken, free)
