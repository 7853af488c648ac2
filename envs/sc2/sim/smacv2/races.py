"""SMACv2's maps and scenarios: the three races, their unit types, and the teams of the fifteen standard scenarios."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from envs.sc2.sim.maps import SC2Map, Spawn
from envs.sc2.sim.terrain import BORDER, height_grid, layer_grid
from envs.sc2.sim.units import unit_data

MAP_SIZE = 32
EPISODE_LIMIT = 200
API_NAMES = {
    "Marine": "marine",
    "Marauder": "marauder",
    "Medivac": "medivac",
    "Stalker": "stalker",
    "Zealot": "zealot",
    "Colossus": "colossus",
    "Zergling": "zergling",
    "Hydralisk": "hydralisk",
    "Baneling": "baneling",
}
"""SMACv2's names of the engine's unit types."""
SIGHT_RANGES = {
    "Marine": 9, "Marauder": 10, "Medivac": 11, "Stalker": 10, "Zealot": 9, "Colossus": 10, "Zergling": 8,
    "Baneling": 8, "Hydralisk": 9,
}  # fmt: skip
SHOOT_RANGES = {
    "Marine": 5, "Marauder": 6, "Medivac": 4, "Stalker": 6, "Zealot": 0.1, "Colossus": 7, "Zergling": 0.1,
    "Baneling": 0.25, "Hydralisk": 5,
}  # fmt: skip
"""With `use_unit_ranges`, before `min_attack_range`."""


class Race(NamedTuple):
    """One of SMACv2's three maps; both sides are of the same race."""

    letter: str
    map_type: str
    type_names: tuple[str, ...]  # in the order of their bits
    weights: dict[str, float]  # of the standard scenarios, in the order in which SMACv2 lists the types
    exceptions: tuple[str, ...]  # of which alone no standard team consists


RACES = {
    "10gen_terran": Race(
        "T", "terran_gen", ("Marine", "Marauder", "Medivac"),
        {"marine": 0.45, "marauder": 0.45, "medivac": 0.1}, ("medivac",),
    ),
    "10gen_protoss": Race(
        "P", "protoss_gen", ("Stalker", "Zealot", "Colossus"),
        {"stalker": 0.45, "zealot": 0.45, "colossus": 0.1}, (),
    ),
    "10gen_zerg": Race(
        "Z", "zerg_gen", ("Zergling", "Hydralisk", "Baneling"),
        {"zergling": 0.45, "baneling": 0.1, "hydralisk": 0.45}, ("baneling",),
    ),
}  # fmt: skip
"""By SMACv2's names of the maps."""

SIZES = ((5, 5), (10, 10), (10, 11), (20, 20), (20, 23))
SCENARIOS = {f"{map_name.removeprefix('10gen_')}_{n}_vs_{m}": (map_name, n, m) for map_name in RACES for n, m in SIZES}
"""(map, agents, enemies) of the standard scenarios by name."""
MAP_NAMES = (*SCENARIOS, *RACES)


def race_of(name: str) -> Race:
    """Returns the race of a map or a scenario."""
    return RACES[SCENARIOS[name][0] if name in SCENARIOS else name]


def standard_config(name: str) -> dict[str, Any]:
    """Returns the capability configuration of a standard scenario."""
    map_name, n_units, n_enemies = SCENARIOS[name]
    race = RACES[map_name]
    return {
        "n_units": n_units,
        "n_enemies": n_enemies,
        "team_gen": {
            "dist_type": "weighted_teams",
            "unit_types": list(race.weights),
            "weights": list(race.weights.values()),
            "exception_unit_types": list(race.exceptions),
            "observe": True,
        },
        "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": MAP_SIZE, "map_y": MAP_SIZE},
    }


class FlatMap(SC2Map):
    """The map on which all races play, as one of the engine's: its teams are of the type that takes most to play, and
    every battle has teams of its own.
    """

    @property
    def type_names(self) -> list[str]:
        """The unit types of the race, in the order of `type` in records.UNIT and of their bits."""
        return list(next(race.type_names for race in RACES.values() if race.letter == self.ally_race))


@cache
def flat_map(name: str, n_agents: int, n_enemies: int) -> FlatMap:
    """Returns the map under the name of a map or a scenario, for as many units."""
    race = race_of(name)
    widest = max(race.type_names, key=lambda type_name: "splash" in str(unit_data()[type_name]["weapons"]))
    pathing = np.zeros((MAP_SIZE, MAP_SIZE), bool)
    pathing[BORDER:-BORDER, BORDER:-BORDER] = True
    levels = [f"{MAP_SIZE}l"] * MAP_SIZE
    return FlatMap(
        name=name,
        episode_limit=EPISODE_LIMIT,
        map_type=race.map_type,
        unit_type_bits=len(race.type_names),
        ally_race=race.letter,
        enemy_race=race.letter,
        ally_types=[widest] * n_agents,
        enemy_types=[widest] * n_enemies,
        ally_spawns=[Spawn(n_agents, widest, (8.0, 16.0))],
        enemy_spawns=[Spawn(n_enemies, widest, (24.0, 16.0))],
        enemy_order={"kind": "none"},
        pathing=pathing,
        grid=layer_grid(pathing, levels),
        heights=height_grid(levels),
    )
