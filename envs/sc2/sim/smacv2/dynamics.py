"""What SMACv2's map adds to the engine's game loops, compiled: units created anywhere, and the orders of the enemies.

`../dynamics.py` plays the loops.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from envs.sc2.sim.creation import Types, has_room, shares_layer, sort_agents
from envs.sc2.sim.dynamics import game_loop, set_order, shuffle, start_units
from envs.sc2.sim.jit import borrowed, compiled
from envs.sc2.sim.maps import OVERLAP
from envs.sc2.sim.movement import place
from envs.sc2.sim.records import ATTACK, ATTACK_MOVE, IDLE, NO_UNIT, next_random

ORDER_PERIOD = 8
"""Game loops between two looks of the map's script for enemies without an order."""


@compiled
def advance(
    units, effects, n_effects, sequences, random, loops, places, near, worlds, n_loops, types, grid, cells, ways,
    battle, phases,
):  # fmt: skip
    """`../dynamics.py`'s `advance` with the map's script; phases [batch] shift the loops in which it runs."""
    for b in range(units.shape[0]):
        if worlds[b]:
            _advance_battle(
                b, units, effects, n_effects, sequences, random, loops, places, near, n_loops, types, grid, cells, ways,
                battle, phases,
            )  # fmt: skip


@compiled(parallel=True)
def advance_parallel(
    units, effects, n_effects, sequences, random, loops, places, near, worlds, n_loops, types, grid, cells, ways,
    battle, phases,
):  # fmt: skip
    """`advance` with the battles spread over numba's threads."""
    for b in prange(units.shape[0]):
        if worlds[b]:
            _advance_battle(
                b, units, effects, n_effects, sequences, random, loops, places, near, n_loops, types, grid, cells, ways,
                battle, phases,
            )  # fmt: skip


@compiled
def _advance_battle(
    b, units, effects, n_effects, sequences, random, loops, places, near, n_loops, types, grid, cells, ways, battle,
    phases,
):  # fmt: skip
    units, effects, n_effects = borrowed(units)[b], borrowed(effects)[b], borrowed(n_effects)[b]
    sequence, places, near = borrowed(sequences)[b], borrowed(places)[b], borrowed(near)[b]
    types, grid, cells, ways = borrowed(types), borrowed(grid), borrowed(cells), borrowed(ways)
    shuffle(sequence, random, b)
    place(units, types, places)
    for _ in range(n_loops):
        loops[b] += 1
        if (loops[b] + phases[b]) % ORDER_PERIOD == 0:
            order_the_idle(units, types, battle.n_agents)
        game_loop(units, effects, n_effects, sequence, loops[b], types, grid, cells, ways, battle, places, near)


@compiled
def order_the_idle(units, types, n_agents):
    """Orders every enemy without an order to attack the closest agent until it dies.

    An opponent that a unit has found by itself counts as an order, the way back after a chase does not. Medivacs can't
    attack, and whoever can't reach the closest agent stays idle.
    """
    for k in range(n_agents, len(units)):
        u = units[k]
        if u.health <= 0 or u.heals or u.target != NO_UNIT or not (u.order == IDLE or u.order == ATTACK_MOVE):
            continue
        if u.acquires == 0:  # it is not played by the bot
            continue
        closest, closest_square = NO_UNIT, np.inf
        for i in range(n_agents):
            v = units[i]
            square = (v.x - u.x) ** 2 + (v.y - u.y) ** 2
            if v.health > 0 and square < closest_square:
                closest, closest_square = i, square
        if closest != NO_UNIT and units[closest].planes & types[u.type].reaches:
            set_order(u, ATTACK, closest)
            u.chases = NO_UNIT


# ------------------------------------------------------------------------------------------------ creation


class Ground(NamedTuple):
    """Where units are created, and how."""

    lattice: np.ndarray  # int64 [point, (x, y)] of maps.lattice
    low: float  # the edge of the ground, in the west and the south
    high: float  # in the east and the north
    types: Types


@compiled
def create(
    units, new_units, teams, points, ground, n_effects, sequences, random, loops, worlds, n_agents, shuffles_enemies,
    fresh, phases,
):  # fmt: skip
    """Creates the units of every battle of the mask in the order of their teams' lists, agents first.

    new_units [team, type]: the records of new units; teams int64 [batch, unit]: types; points [batch, unit, (x, y)]:
    where they are to be; fresh [unit] is scratch space; phases [batch] of `advance` are drawn.
    """
    for b in range(units.shape[0]):
        if worlds[b]:
            for k in range(units.shape[1]):
                fresh[k] = new_units[int(k >= n_agents), teams[b, k]]
                _place(fresh, k, points[b, k, 0], points[b, k, 1], ground)
            sort_agents(fresh, n_agents, ground.types.ranks)
            start_units(b, units, fresh, n_effects, sequences, random, loops, n_agents, shuffles_enemies)
            random[b], draw = next_random(random[b])
            phases[b] = int(draw * ORDER_PERIOD)


@compiled
def _place(units, k, x, y, ground):
    """Puts unit k to a point, or to the nearest place where it has room, as `maps.spawn_positions` does."""
    u = units[k]
    low, high = ground.low + u.separation_radius, ground.high - u.separation_radius
    x, y = min(max(x, low), high), min(max(y, low), high)
    u.x, u.y = x, y
    for p in range(len(ground.lattice)):
        place_x, place_y = x + ground.lattice[p, 0] * u.radius, y + ground.lattice[p, 1] * u.radius
        inside = low <= place_x <= high and low <= place_y <= high
        if inside and has_room(units, k, k, place_x, place_y, 2 * OVERLAP, ground.types.layers):
            u.x, u.y = place_x, place_y
            _move_up(units, k, x, y, ground.types.layers)
            break
    u.home_x, u.home_y = u.x, u.y
    u.goal_x, u.goal_y = 0.0, 0.0


@compiled
def _move_up(units, k, x, y, layers):
    """Moves unit k straight towards the point until it touches the one that stands there, if nobody is in the way."""
    u = units[k]
    dx, dy = u.x - x, u.y - y
    distance = np.sqrt(dx * dx + dy * dy)
    if distance == 0:
        return
    for j in range(k):
        v = units[j]
        if v.x == x and v.y == y and shares_layer(u, v, layers):
            scale = (u.radius + v.radius - OVERLAP) / distance
            if scale < 1 and has_room(units, k, k, x + scale * dx, y + scale * dy, OVERLAP, layers):
                u.x, u.y = x + scale * dx, y + scale * dy
            return
