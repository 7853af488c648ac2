"""Where units come to stand that are created anew in every episode, compiled: in areas of a map of one's own; room
beside others; the order of the agents' ids.

`maps.py` places units that always stand alike, `smacv2/dynamics.py` those of SMACv2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.sc2.sim.dynamics import start_units
from envs.sc2.sim.jit import compiled, inlined
from envs.sc2.sim.maps import AGENT_TYPE_ORDER, OVERLAP
from envs.sc2.sim.records import next_random
from envs.sc2.sim.units import AIR, layer

TINY = 1e-9
MOST_TRIES = 1000  # for one unit, before all are placed anew
MOST_DRAWS = 100  # before all stand as the map's file was first read


class Types(NamedTuple):
    """What creation must know of the unit types."""

    ranks: np.ndarray  # int64 [type]: the agents' types in the order of their ids
    layers: np.ndarray  # int64 [type]

    @classmethod
    def of(cls, type_names: list[str]) -> Types:
        order = sorted(type_names, key=AGENT_TYPE_ORDER.index)
        return cls(np.array([order.index(name) for name in type_names]), np.array([layer(name) for name in type_names]))


@compiled
def create_in_areas(
    units, template, areas, goal, types, grid, n_effects, sequences, random, loops, worlds, n_agents, shuffles_enemies,
    fresh,
):  # fmt: skip
    """Creates the units of every battle of the mask, each that has an area anywhere in it, and the others as they are.

    template [unit]: records of new units, agents first, which stand as they may; areas [unit, (west, south, east,
    north)], not a number for whoever has none; goal (x, y): where the enemies march to in formation, not a number where
    they don't; grid of terrain.layer_grid; fresh [unit] is scratch space. The rest is that of dynamics.reset_units.
    """
    for b in range(units.shape[0]):
        if worlds[b]:
            _draw_places(fresh, template, areas, types.layers, grid, random, b)
            _march(fresh, n_agents, goal)
            sort_agents(fresh, n_agents, types.ranks)
            start_units(b, units, fresh, n_effects, sequences, random, loops, n_agents, shuffles_enemies)


@compiled
def _draw_places(units, template, areas, layers, grid, random, b):
    """Where it does not succeed, which is all but impossible in areas with some room, units stand as in template."""
    for _ in range(MOST_DRAWS):
        for k in range(len(units)):
            units[k] = template[k]
            if areas[k, 0] >= 0:
                units[k].x = np.nan  # in nobody's way
        if _have_room(units, areas, layers, grid, random, b):
            return
    for k in range(len(units)):
        units[k] = template[k]


@compiled
def _have_room(units, areas, layers, grid, random, b):
    """Draws the places of all units with areas, one after the other; returns whether each has found one."""
    for k in range(len(units)):
        if areas[k, 0] >= 0 and not _has_found_place(units, k, areas[k], layers, grid, random, b):
            return False
    return True


@compiled
def _has_found_place(units, k, area, layers, grid, random, b):
    u, (west, south, east, north) = units[k], area
    for _ in range(MOST_TRIES):
        random[b], east_share = next_random(random[b])
        random[b], north_share = next_random(random[b])
        x, y = west + east_share * (east - west), south + north_share * (north - south)
        is_inside = x < grid.shape[0] and y < grid.shape[1]
        is_free = is_inside and grid[int(x), int(y)] >> layers[u.type] & 1 == 1
        if is_free and has_room(units, k, len(units), x, y, 2 * OVERLAP, layers):
            u.x, u.y, u.home_x, u.home_y = x, y, x, y
            return True
    return False


@compiled
def _march(units, n_agents, goal):
    if np.isnan(goal[0]):
        return
    n_enemies, centre_x, centre_y = len(units) - n_agents, 0.0, 0.0
    for k in range(n_agents, len(units)):
        centre_x += units[k].x / n_enemies
        centre_y += units[k].y / n_enemies
    for k in range(n_agents, len(units)):
        units[k].goal_x = goal[0] + units[k].x - centre_x
        units[k].goal_y = goal[1] + units[k].y - centre_y


@inlined
def shares_layer(u, v, layers):
    """Whether two units can be in each other's way."""
    return (layers[u.type] == AIR) == (layers[v.type] == AIR)


@compiled
def has_room(units, k, n_placed, x, y, overlap, layers):
    """Whether unit k, at (x, y), overlaps none of the first n_placed units by more than this."""
    u = units[k]
    for j in range(n_placed):
        v = units[j]
        if j != k and shares_layer(u, v, layers):
            gap = np.sqrt((v.x - x) ** 2 + (v.y - y) ** 2) - v.radius - u.radius
            if gap < -overlap - TINY:
                return False
    return True


@compiled
def sort_agents(units, n_agents, ranks):
    """By type, then x, then y, both in single precision as the game tells them; equals stay in order."""
    for i in range(1, n_agents):
        k = i
        while k > 0 and _is_before(units[k], units[k - 1], ranks):
            kept = units[k : k + 1].copy()
            units[k] = units[k - 1]
            units[k - 1] = kept[0]
            k -= 1


@inlined
def _is_before(u, v, ranks):
    if ranks[u.type] != ranks[v.type]:
        return ranks[u.type] < ranks[v.type]
    if np.float32(u.x) != np.float32(v.x):
        return np.float32(u.x) < np.float32(v.x)
    return np.float32(u.y) < np.float32(v.y)
