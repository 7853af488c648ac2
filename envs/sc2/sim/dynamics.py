"""One game loop (1/16 s) of a battle, compiled: orders, timers, targets, shots, movement.

Units are records of one array [batch, unit], agents first; `advance` plays some loops of many battles. Each unit has a
random state of its own, so that a battle depends on nothing but its seed and its orders. `records.py` has the records,
`units.py` the unit types, `targets.py`, `weapons.py` and `movement.py` what a unit does, `rules.py` what is uncertain,
`features.py` what the agents see of all this.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from envs.sc2.sim.jit import borrowed, compiled, inlined
from envs.sc2.sim.movement import FIRM, YIELDS, place, push_apart, walk
from envs.sc2.sim.records import ATTACK, IDLE, MOVE, NO_UNIT, next_random, within
from envs.sc2.sim.targets import can_heal, choose_in_range, choose_patient, choose_target, has_energy, wants_healing
from envs.sc2.sim.weapons import heal, regenerate, run_effects, start_shot, sweep_beams, wind_up

SCAN_PHASES = 840  # divisible by all periods to 8

# ------------------------------------------------------------------------------------------------ many battles


@compiled
def advance(
    units, effects, n_effects, sequences, random, loops, places, near, worlds, n_loops, types, grid, cells, ways, battle
):
    """Plays n_loops in every battle of the mask.

    units [batch, unit]; effects [batch, effect], the first n_effects [batch, 1] of which are under way; sequences
    [batch, unit]: in which order units act, drawn anew here; random [batch]: generators of the battles; loops [batch]:
    game loops since the start of the episode; places [batch, N_ROWS, n_columns] and near [batch, 2 * unit]: scratch
    space; worlds [batch]: the mask; types [type] of units.UNIT_TYPE; grid [x, y] of terrain.layer_grid; cells and
    ways of paths.find_ways.
    """
    for b in range(units.shape[0]):
        if worlds[b]:
            _advance_battle(
                b, units, effects, n_effects, sequences, random, loops, places, near, n_loops,
                types, grid, cells, ways, battle,
            )  # fmt: skip


@compiled(parallel=True)
def advance_parallel(
    units, effects, n_effects, sequences, random, loops, places, near, worlds, n_loops, types, grid, cells, ways, battle
):
    """`advance` with the battles spread over numba's threads."""
    for b in prange(units.shape[0]):
        if worlds[b]:
            _advance_battle(
                b, units, effects, n_effects, sequences, random, loops, places, near, n_loops,
                types, grid, cells, ways, battle,
            )  # fmt: skip


@compiled
def _advance_battle(
    b, units, effects, n_effects, sequences, random, loops, places, near, n_loops, types, grid, cells, ways, battle
):
    units, effects, n_effects = borrowed(units)[b], borrowed(effects)[b], borrowed(n_effects)[b]
    sequence, places, near = borrowed(sequences)[b], borrowed(places)[b], borrowed(near)[b]
    types, grid, cells, ways = borrowed(types), borrowed(grid), borrowed(cells), borrowed(ways)
    shuffle(sequence, random, b)
    place(units, types, places)
    for _ in range(n_loops):
        loops[b] += 1
        game_loop(units, effects, n_effects, sequence, loops[b], types, grid, cells, ways, battle, places, near)


@compiled
def shuffle(sequence, random, b):
    """Puts the units of battle b into a new random sequence of moves (Fisher-Yates)."""
    for k in range(len(sequence) - 1, 0, -1):
        random[b], draw = next_random(random[b])
        other = int(draw * (k + 1))
        sequence[k], sequence[other] = sequence[other], sequence[k]


@compiled
def reset_units(
    units, fresh, chances, n_effects, sequences, random, loops, worlds, n_agents, segment, shuffles_enemies
):
    """Puts fresh units [start, unit] into the battles of the mask, each with a generator drawn from its battle's.

    chances [start]: that a battle begins with this start or an earlier one. segment [2, 2]: enemies march to a random
    point between these two, if they are two. shuffles_enemies: list them in a random order.
    """
    units, fresh = borrowed(units), borrowed(fresh)
    (from_x, from_y), (to_x, to_y) = segment
    for b in range(units.shape[0]):
        if worlds[b]:
            start = 0
            if len(chances) > 1:
                random[b], draw = next_random(random[b])
                while start < len(chances) - 1 and draw >= chances[start]:
                    start += 1
            start_units(b, units, fresh[start], n_effects, sequences, random, loops, n_agents, shuffles_enemies)
            if from_x != to_x or from_y != to_y:
                random[b], draw = next_random(random[b])
                for i in range(n_agents, units.shape[1]):
                    units[b, i].goal_x = from_x + draw * (to_x - from_x)
                    units[b, i].goal_y = from_y + draw * (to_y - from_y)


@compiled
def start_units(b, units, fresh, n_effects, sequences, random, loops, n_agents, shuffles_enemies):
    """Begins battle b with fresh units [unit]: lists the enemies, and gives each unit its generator."""
    n_effects[b, 0], loops[b] = 0, 0
    for i in range(units.shape[1]):
        sequences[b, i] = i
        units[b, i] = fresh[i]
    if shuffles_enemies:
        _list_enemies(units[b], fresh, n_agents, random, b)
    for i in range(units.shape[1]):
        random[b], draw = next_random(random[b])
        units[b, i].random = np.uint64(draw * 9007199254740992.0)
        random[b], draw = next_random(random[b])
        units[b, i].scan_phase = int(draw * SCAN_PHASES)


@compiled
def _list_enemies(units, fresh, n_agents, random, b):
    """Writes the enemies of one battle in a random order: each, from the last created, at either end of the list."""
    first, last = n_agents, len(units) - 1
    for k in range(n_agents, len(units)):
        random[b], draw = next_random(random[b])
        if draw < 0.5:
            units[first] = fresh[k]
            first += 1
        else:
            units[last] = fresh[k]
            last -= 1


# ------------------------------------------------------------------------------------------------ orders


@compiled
def give_orders(units, actions, avail_actions, worlds, move_amount, types):
    """Turns the agents' actions [batch, agent] into orders.

    Gives -1, or the flat index (battle * n_agents + agent) of the first action that is not available; then no order has
    been given in any battle.
    """
    n_agents = actions.shape[1]
    refused = find_refused(actions, avail_actions, worlds)
    if refused >= 0:
        return refused
    for b in range(units.shape[0]):
        if worlds[b]:
            for i in range(n_agents):
                _give_order(units[b], i, actions[b, i], move_amount, 0, n_agents, types)
    return -1


@compiled
def find_refused(actions, avail_actions, worlds):
    """Gives -1, or the flat index (battle * n_agents + agent) of the first action that is not available."""
    for b in range(actions.shape[0]):
        if worlds[b]:
            for i in range(actions.shape[1]):
                action = actions[b, i]
                if action < 0 or action >= avail_actions.shape[2] or avail_actions[b, i, action] == 0:
                    return b * actions.shape[1] + i
    return -1


@compiled
def give_enemy_orders(units, actions, own, battles, move_amount, n_agents, types):
    """Turns actions [batch, enemy] into orders of the enemies, in these battles.

    The actions are those of `enemies.py`, seen from the other side: own [batch, enemy] has the unit that each is of,
    which is the one that heals or is healed by that number; opponents are the agents, and east and west are exchanged.
    An attack on nobody changes nothing.
    """
    for b in battles:
        for i in range(actions.shape[1]):
            action, unit = actions[b, i], own[b, i]
            if action == 4 or action == 5:
                action = 9 - action
            elif action >= 6 and units[b, unit].heals:
                if action - 6 >= actions.shape[1]:
                    continue
                action = 6 + own[b, action - 6] - n_agents
            elif action - 6 >= n_agents:
                continue
            _give_order(units[b], unit, action, move_amount, n_agents, 0, types)


@inlined
def _give_order(units, i, action, move_amount, first_friend, first_foe, types):
    """An order that the game refuses (to heal the healthy, to shoot what the weapon can't reach) changes nothing."""
    u = units[i]
    if action == 1:
        set_order(u, IDLE, NO_UNIT)
        u.step_x, u.step_y = 0.0, 0.0
        u.goal_x, u.goal_y = u.x, u.y
    elif 2 <= action <= 5:
        set_order(u, MOVE, NO_UNIT)
        u.goal_x = u.x + move_amount * (int(action == 4) - int(action == 5))
        u.goal_y = u.y + move_amount * (int(action == 2) - int(action == 3))
        u.step_x = (u.goal_x - u.x) / move_amount * types[u.type].speed
        u.step_y = (u.goal_y - u.y) / move_amount * types[u.type].speed
    elif action >= 6 and u.heals:
        v = units[first_friend + action - 6]
        if wants_healing(v) and can_heal(v, types) and has_energy(u, types):
            set_order(u, ATTACK, first_friend + action - 6)
    elif action >= 6 and units[first_foe + action - 6].planes & types[u.type].reaches:
        set_order(u, ATTACK, first_foe + action - 6)


@inlined
def set_order(u, order, target):
    """A new order calls off a wind-up, giving its cooldown back, cuts the backswing and stops beams; the same one does
    nothing."""
    if order == ATTACK and u.order == ATTACK and u.target == target:
        return
    if u.shooting_at != NO_UNIT:
        u.shooting_at = NO_UNIT
        u.cooldown = 0.0
    u.backswing = 0.0
    u.stuck_wait = u.side = 0
    u.order = order
    u.target = target


# ------------------------------------------------------------------------------------------------ one game loop


@inlined
def game_loop(units, effects, n_effects, sequence, loop, types, grid, cells, ways, battle, places, near):
    """Every living unit, in turn: timers, target, and then a shot, a step, or nothing; then pushes, and what is
    under way.

    places [N_ROWS, n_columns] of `place`, kept up to date; near [2 * unit] is scratch space.
    """
    units, types, grid, cells, ways = borrowed(units), borrowed(types), borrowed(grid), borrowed(cells), borrowed(ways)
    effects, n_effects = borrowed(effects), borrowed(n_effects)
    places, near = borrowed(places), borrowed(near)
    for i in borrowed(sequence):
        u = units[i]
        if u.health <= 0:
            continue
        u.acted_loop = loop
        u.step_x, u.step_y = 0.0, 0.0
        _run_timers(u)
        if battle.regenerates:
            regenerate(u, types[u.type])
        if u.sweep > 0:
            sweep_beams(units, i, effects, n_effects, battle)
            if u.order != MOVE:
                continue
        if u.shooting_at != NO_UNIT:
            wind_up(units, i, types, effects, n_effects, battle, places)
            continue
        reach = types[u.type].range
        if u.heals:
            choose_patient(units, i, types)
            reach = types[u.type].heal_range
        elif u.free_fire and u.order == IDLE:
            choose_in_range(units, i, types, battle)
        elif u.acquires and u.order != ATTACK:
            choose_target(units, i, loop, types, battle)
        elif u.order == ATTACK and units[u.target].health <= 0:
            u.order = IDLE
            u.target = NO_UNIT
            u.home_x, u.home_y = u.x, u.y
        places[YIELDS, i] = u.team if types[u.type].speed > 0 else FIRM
        goal_x, goal_y = u.goal_x, u.goal_y
        if u.target != NO_UNIT:
            v = units[u.target]
            if within(u, v, reach):
                if u.heals:
                    heal(u, v, types[u.type])
                elif u.cooldown <= 0:
                    start_shot(units, i, loop, types, effects, n_effects, battle, places)
                if not u.heals or v.speed == 0:  # else it goes along with its patient
                    u.speed = 0.0
                    places[YIELDS, i] = FIRM
                    continue
            goal_x, goal_y = v.x, v.y
        elif u.order == IDLE:
            u.speed = 0.0
            continue
        walk(units, i, goal_x, goal_y, loop, types, grid, cells, ways, battle, places, near)
    push_apart(units, sequence, types, grid, battle, places, near)
    if n_effects[0] > 0:
        run_effects(units, types, effects, n_effects, battle, places)


@inlined
def _run_timers(u):
    if u.cooldown > 0 or u.shooting_at != NO_UNIT:  # below zero: that part of a loop counts for the next shot
        u.cooldown -= 1
    else:
        u.cooldown = 0.0
    if u.backswing > 0:
        u.backswing -= 1
