"""One game loop (1/16 s) of a battle, compiled: orders, targeting, shots, damage, movement.

Units are records of one array [batch, unit], agents first; `advance` plays some loops of many battles. Each unit has a
random state of its own, so that a battle depends on nothing but its seed and its orders. `units.py` has the unit types,
`rules.py` what is uncertain, `features.py` what the agents see of all this.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from envs.sc2.sim.jit import borrowed, compiled, inlined

NO_UNIT = -1
IDLE, MOVE, ATTACK, ATTACK_MOVE = 0, 1, 2, 3
"""Orders: stand; go to the goal; attack the target only; go to the goal and fight whoever comes into scan range."""

UNIT = np.dtype(
    [
        # what the loops over all units read comes first, in one cache line
        ("x", "f8"),
        ("y", "f8"),
        ("health", "f8"),  # 0: dead
        ("radius", "f8"),  # for ranges; fixed by its type
        ("separation_radius", "f8"),  # for collisions; fixed by its type
        ("target", "i4"),  # the unit it attacks
        ("team", "i4"),
        ("type", "i4"),  # row of the table of unit types
        ("order", "i4"),
        ("shield", "f8"),
        ("energy", "f8"),
        ("cooldown", "f8"),  # loops until the weapon is ready
        ("windup", "f8"),  # loops until the shot that is being prepared
        ("backswing", "f8"),  # loops until the unit may walk on
        ("goal_x", "f8"),
        ("goal_y", "f8"),
        ("home_x", "f8"),  # where an idle unit goes back to after a chase
        ("home_y", "f8"),
        ("random", "u8"),  # state of the unit's own generator
        ("shooting_at", "i4"),  # the unit that the wind-up is for
        ("chases", "i4"),  # whoever hurt it, or a friend that called for help, from outside its scan range
        ("help_wait", "i4"),  # loops until it may call for help again
        ("scan_wait", "i4"),  # loops in which nobody can come into its scan range
        ("acquires", "i4"),  # 1: chooses targets by itself
        ("stuck_wait", "i4"),  # loops until a unit that is hemmed in looks for a way out again
        ("side", "i4"),  # 1 or -1: on which side it goes round an obstacle; 0: no obstacle
        # what features.py divides by and writes of its type; fixed
        ("health_max", "f8"),
        ("shield_max", "f8"),  # 1 where it has none
        ("cooldown_max", "f8"),
        ("type_index", "i4"),  # in the one-hot of unit types
        ("heals", "i4"),  # 1: a medivac on a map of type MMM
    ],
    align=True,
)

CALL_FOR_HELP_RANGE = 4.0
CALL_FOR_HELP_LOOPS = 32
LEASH = 21.0
MIN_DAMAGE = 0.5
MAX_APPROACH = 1.0  # two units never come nearer to each other by more than this in a loop
HEADINGS = tuple((float(np.cos(a)), float(np.sin(a))) for a in np.radians((0, 30, 60, 90, 120)))
"""Turns (cosine, sine) from the straight way that a blocked unit tries, to either side."""
STUCK_LOOPS = 1
NOWHERE = 1e9  # where the dead are, who block nobody
CONTACT = 1e-6  # closer than the sum of radii by more than this is an overlap


class Battle(NamedTuple):
    """What the compiled code must know of the map and of the open rules (`rules.py`)."""

    n_agents: int
    scan_period_loops: int
    cooldown_from_effect: bool


# ------------------------------------------------------------------------------------------------ random numbers


@inlined
def next_random(state):
    """(new state, uniform number in [0, 1)); the generator is SplitMix64 (Steele, Lea and Flood 2014)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return state, np.float64(z >> np.uint64(11)) * 1.1102230246251565e-16


@compiled()
def _shuffle(sequence, random, b):
    """Puts the units of battle b into a new random sequence of moves (Fisher-Yates)."""
    for k in range(len(sequence) - 1, 0, -1):
        random[b], draw = next_random(random[b])
        other = int(draw * (k + 1))
        sequence[k], sequence[other] = sequence[other], sequence[k]


# ------------------------------------------------------------------------------------------------ many battles


@compiled()
def advance(units, sequences, random, loops, worlds, n_loops, types, pathing, battle):
    """Plays n_loops in every battle of the mask.

    units [batch, unit]; sequences [batch, unit]: in which order units act, drawn anew here; random [batch]: generators
    of the battles; loops [batch]: game loops since the start of the episode; worlds [batch]: the mask;
    types [type] of units.UNIT_TYPE; pathing bool [x, y].
    """
    for b in range(units.shape[0]):
        if worlds[b]:
            _advance_battle(b, units, sequences, random, loops, n_loops, types, pathing, battle)


@compiled(parallel=True)
def advance_parallel(units, sequences, random, loops, worlds, n_loops, types, pathing, battle):
    """`advance` with the battles spread over numba's threads."""
    for b in prange(units.shape[0]):
        if worlds[b]:
            _advance_battle(b, units, sequences, random, loops, n_loops, types, pathing, battle)


@compiled()
def _advance_battle(b, units, sequences, random, loops, n_loops, types, pathing, battle):
    places = _places(units[b])
    near = np.empty(units.shape[1], np.int64)
    _shuffle(sequences[b], random, b)
    for _ in range(n_loops):
        loops[b] += 1
        game_loop(units[b], sequences[b], loops[b], types, pathing, battle, places, near)


@compiled()
def reset_units(units, fresh, random, worlds):
    """Puts fresh units [unit] into the battles of the mask, each with a generator drawn from its battle's."""
    for b in range(units.shape[0]):
        if worlds[b]:
            for i in range(units.shape[1]):
                units[b, i] = fresh[i]
                random[b], draw = next_random(random[b])
                units[b, i].random = np.uint64(draw * 9007199254740992.0)


@compiled()
def give_orders(units, actions, avail_actions, worlds, move_amount):
    """Turns the agents' actions [batch, agent] into orders.

    Gives -1, or the flat index (battle * n_agents + agent) of the first action that is not available; then no order has
    been given in any battle.
    """
    n_agents = actions.shape[1]
    for b in range(units.shape[0]):
        if worlds[b]:
            for i in range(n_agents):
                action = actions[b, i]
                if action < 0 or action >= avail_actions.shape[2] or avail_actions[b, i, action] == 0:
                    return b * n_agents + i
    for b in range(units.shape[0]):
        if worlds[b]:
            for i in range(n_agents):
                _give_order(units[b, i], actions[b, i], move_amount, n_agents)
    return -1


@inlined
def _give_order(u, action, move_amount, n_agents):
    if action == 1:
        _set_order(u, IDLE, NO_UNIT)
        u.goal_x, u.goal_y = u.x, u.y
    elif 2 <= action <= 5:
        _set_order(u, MOVE, NO_UNIT)
        u.goal_x = u.x + move_amount * (int(action == 4) - int(action == 5))
        u.goal_y = u.y + move_amount * (int(action == 2) - int(action == 3))
    elif action >= 6:
        _set_order(u, ATTACK, n_agents + action - 6)


@inlined
def _set_order(u, order, target):
    """A new order calls off a wind-up, giving its cooldown back, and cuts the backswing; the same one does nothing."""
    if order == ATTACK and u.order == ATTACK and u.target == target:
        return
    if u.shooting_at != NO_UNIT:
        u.shooting_at = NO_UNIT
        u.cooldown = 0.0
    u.backswing = 0.0
    u.stuck_wait = 0
    u.order = order
    u.target = target


# ------------------------------------------------------------------------------------------------ one game loop


@compiled()
def game_loop(units, sequence, loop, types, pathing, battle, places, near):
    """Every living unit, in turn: timers, target, and then a shot, a step, or nothing.

    places [3, unit] of `_places`, kept up to date; near [unit] is scratch space.
    """
    units, types, pathing = borrowed(units), borrowed(types), borrowed(pathing)
    places, near = borrowed(places), borrowed(near)
    for i in borrowed(sequence):
        u = units[i]
        if u.health <= 0:
            continue
        _run_timers(u)
        if u.shooting_at != NO_UNIT:
            _wind_up(units, i, types, battle, places)
            continue
        if u.acquires:
            _choose_target(units, i, loop, types, battle)
        elif u.order == ATTACK and units[u.target].health <= 0:
            u.order = IDLE
            u.target = NO_UNIT
        goal_x, goal_y = u.goal_x, u.goal_y
        if u.target != NO_UNIT:
            v = units[u.target]
            if _within(u, v, types[u.type].range):
                if u.cooldown <= 0:
                    _start_shot(units, i, types, battle, places)
                continue
            goal_x, goal_y = v.x, v.y
        elif u.order == IDLE:
            continue
        _walk(units, i, goal_x, goal_y, types, pathing, places, near)


@inlined
def _run_timers(u):
    if u.cooldown > 0:
        u.cooldown = max(u.cooldown - 1, 0.0)
    if u.backswing > 0:
        u.backswing -= 1
    if u.help_wait > 0:
        u.help_wait -= 1


@inlined
def _within(u, v, reach):
    """Whether two units are no further apart than `reach`, edge to edge."""
    reach = reach + u.radius + v.radius
    return (v.x - u.x) ** 2 + (v.y - u.y) ** 2 <= reach * reach


# ------------------------------------------------------------------------------------------------ targets


@inlined
def _choose_target(units, i, loop, types, battle):
    """Keeps a target within weapon range; else looks for the best one in scan range; else chases whoever called."""
    u = units[i]
    unit_type = types[u.type]
    if u.target != NO_UNIT:
        v = units[u.target]
        if v.health > 0 and _within(u, v, unit_type.range):
            return
    if u.scan_wait > 0:
        u.scan_wait -= 1
        u.target = NO_UNIT
    elif (loop + i) % battle.scan_period_loops == 0:
        u.target = _best_target(units, i, unit_type.scan_range, battle.n_agents)
    elif u.target != NO_UNIT and units[u.target].health <= 0:
        u.target = NO_UNIT
    if u.target != NO_UNIT:
        u.chases = NO_UNIT
    elif u.chases != NO_UNIT:
        strayed = (u.x - u.home_x) ** 2 + (u.y - u.home_y) ** 2
        if units[u.chases].health > 0 and (u.order == ATTACK_MOVE or strayed <= LEASH**2):
            u.target = u.chases
        else:
            u.chases = NO_UNIT
            if u.order == IDLE:
                u.order = ATTACK_MOVE
                u.goal_x, u.goal_y = u.home_x, u.home_y


@compiled()
def _best_target(units, i, scan_range, n_agents):
    """The nearest opponent in scan range among those that attack this unit, else among all."""
    u = units[i]
    first, last = (n_agents, len(units)) if u.team == 0 else (0, n_agents)
    best, best_gap, best_attacks_me = NO_UNIT, np.inf, False
    for k in range(first, last):
        v = units[k]
        if v.health > 0:
            gap = np.sqrt((v.x - u.x) ** 2 + (v.y - u.y) ** 2) - v.radius
            attacks_me = v.target == i and gap - u.radius <= scan_range
            if (attacks_me and not best_attacks_me) or (attacks_me == best_attacks_me and gap < best_gap):
                best, best_gap, best_attacks_me = k, gap, attacks_me
    if best_gap - u.radius <= scan_range:
        return best
    u.scan_wait = int(min((best_gap - u.radius - scan_range) / MAX_APPROACH, 1e6))
    return NO_UNIT


@compiled()
def _react_to_hit(units, i, attacker):
    """A unit that is hurt and has no target turns on the attacker and calls its idle friends nearby."""
    u = units[i]
    if u.acquires and u.target == NO_UNIT:
        u.chases = attacker
    if u.help_wait > 0:
        return
    u.help_wait = CALL_FOR_HELP_LOOPS
    for k in range(len(units)):
        v = units[k]
        if v.team == u.team and v.health > 0 and v.acquires and v.order == IDLE and v.target == NO_UNIT:
            square = (v.x - u.x) ** 2 + (v.y - u.y) ** 2
            if square <= CALL_FOR_HELP_RANGE**2 and v.chases == NO_UNIT:
                v.chases = attacker


# ------------------------------------------------------------------------------------------------ shots


@compiled()
def _start_shot(units, i, types, battle, places):
    u = units[i]
    unit_type = types[u.type]
    u.shooting_at = u.target
    u.windup = unit_type.damage_point
    if not battle.cooldown_from_effect:
        _start_cooldown(u, unit_type)
    if u.windup <= 0:
        _shoot(units, i, types, battle, places)


@inlined
def _start_cooldown(u, unit_type):
    u.random, draw = next_random(u.random)
    u.cooldown = unit_type.period + unit_type.delay_min + draw * (unit_type.delay_max - unit_type.delay_min)


@inlined
def _wind_up(units, i, types, battle, places):
    """Goes on preparing the shot; it is called off when the target dies or is out of range by more than the slop."""
    u = units[i]
    v = units[u.shooting_at]
    unit_type = types[u.type]
    if v.health <= 0 or not _within(u, v, unit_type.range + unit_type.range_slop):
        u.shooting_at = NO_UNIT
        u.cooldown = 0.0
        return
    u.windup -= 1
    if u.windup <= 0:
        _shoot(units, i, types, battle, places)


@compiled()
def _shoot(units, i, types, battle, places):
    u = units[i]
    unit_type = types[u.type]
    target = u.shooting_at
    u.shooting_at = NO_UNIT
    u.backswing = unit_type.backswing
    if battle.cooldown_from_effect:
        _start_cooldown(u, unit_type)
    for _ in range(int(unit_type.hits)):
        _hit(units[target], unit_type, types)
    if units[target].health > 0:
        _react_to_hit(units, target, i)
    else:
        places[0, target] = NOWHERE


@compiled()
def _hit(v, attacker_type, types):
    """One hit: bonus against matching attributes, shields first (they have no armor), life less its armor."""
    victim_type = types[v.type]
    damage = attacker_type.damage
    if attacker_type.bonus_attributes & victim_type.attributes:
        damage += attacker_type.bonus
    absorbed = min(damage, v.shield)
    v.shield -= absorbed
    damage -= absorbed
    if damage > 0:
        v.health = max(v.health - max(damage - victim_type.armor, MIN_DAMAGE), 0.0)


# ------------------------------------------------------------------------------------------------ movement


@inlined
def _walk(units, i, goal_x, goal_y, types, pathing, places, near):
    """One step towards a point: straight on, else in the direction nearest to it that is free."""
    u = units[i]
    if u.stuck_wait > 0:
        u.stuck_wait -= 1
        return
    if u.backswing > 0:
        return
    dx, dy = goal_x - u.x, goal_y - u.y
    distance = np.sqrt(dx * dx + dy * dy)
    step = min(types[u.type].speed, distance)
    if step <= CONTACT:
        _arrive(u)
        return
    dx, dy = _along_walls(u, dx * step / distance, dy * step / distance, pathing)
    n_near = _find_near(places, i, step, near)
    blocker = _blocker(units, i, dx, dy, near, n_near)
    if blocker == NO_UNIT:
        u.side = 0
        _step(units, i, dx, dy, places)
        return
    v = units[blocker]
    if v.team == u.team:
        if v.order == IDLE and u.order == ATTACK_MOVE and v.home_x == u.goal_x and v.home_y == u.goal_y:
            _arrive(u)  # it stands where this unit wants to go
            return
        if v.order == IDLE and v.target == NO_UNIT:
            _push(units, blocker, dx, dy, step, pathing, places, near)
            n_near = _find_near(places, i, step, near)
    if u.side == 0:  # the side on which the obstacle leaves more room, kept until the way is free
        u.side = 1 if dx * (v.y - u.y) - dy * (v.x - u.x) < 0 else -1
    for k in range(2 * len(HEADINGS)):
        cos, sin = HEADINGS[k // 2]
        turn = sin * u.side if k % 2 == 0 else -sin * u.side
        turned_x, turned_y = _along_walls(u, cos * dx - turn * dy, cos * dy + turn * dx, pathing)
        if _blocker(units, i, turned_x, turned_y, near, n_near) == NO_UNIT:
            _step(units, i, turned_x, turned_y, places)
            return
    u.stuck_wait = STUCK_LOOPS


@inlined
def _arrive(u):
    if u.order == ATTACK_MOVE:
        u.home_x, u.home_y = u.goal_x, u.goal_y
    u.order = IDLE


@inlined
def _places(units):
    """x, y and separation radius of the units as rows [3, unit], which the search for neighbours reads fastest."""
    places = np.empty((3, len(units)))
    for k in range(len(units)):
        places[0, k] = units[k].x if units[k].health > 0 else NOWHERE
        places[1, k] = units[k].y
        places[2, k] = units[k].separation_radius
    return places


@inlined
def _find_near(places, i, step, near):
    """Writes into `near` the living units that a step of this length could touch; gives their number."""
    x, y, reach = places[0, i], places[1, i], places[2, i] + step
    n_near = -1  # it always finds itself
    for k in range(places.shape[1]):
        room = reach + places[2, k]
        n_near += (places[0, k] - x) ** 2 + (places[1, k] - y) ** 2 < room * room
    if n_near > 0:
        n_near = 0
        for k in range(places.shape[1]):
            room = reach + places[2, k]
            if (places[0, k] - x) ** 2 + (places[1, k] - y) ** 2 < room * room and k != i:
                near[n_near] = k
                n_near += 1
    return n_near


@inlined
def _blocker(units, i, dx, dy, near, n_near):
    """The nearest unit ahead that would be overlapped after a step of (dx, dy)."""
    u = units[i]
    found, found_square = NO_UNIT, np.inf
    for k in range(n_near):
        v = units[near[k]]
        room = u.separation_radius + v.separation_radius - CONTACT
        from_x, from_y = v.x - u.x, v.y - u.y
        square = (from_x - dx) ** 2 + (from_y - dy) ** 2
        if square < room * room and from_x * dx + from_y * dy > 0 and square < found_square:
            found, found_square = near[k], square
    return found


@inlined
def _push(units, i, dx, dy, step, pathing, places, near):
    """Moves an idle unit on by a step where there is room for it."""
    u = units[i]
    dx, dy = _along_walls(u, dx, dy, pathing)
    n_near = _find_near(places, i, step, near)
    if _blocker(units, i, dx, dy, near, n_near) == NO_UNIT:
        _step(units, i, dx, dy, places)


@inlined
def _along_walls(u, dx, dy, pathing):
    """The step (dx, dy), or the part of it that runs along a wall."""
    if _is_free_ground(u.x + dx, u.y + dy, pathing):
        return dx, dy
    if _is_free_ground(u.x + dx, u.y, pathing):
        return dx, 0.0
    if _is_free_ground(u.x, u.y + dy, pathing):
        return 0.0, dy
    return 0.0, 0.0


@inlined
def _step(units, i, dx, dy, places):
    u = units[i]
    u.x += dx
    u.y += dy
    places[0, i], places[1, i] = u.x, u.y


@inlined
def _is_free_ground(x, y, pathing):
    width, height = pathing.shape
    return 0 <= x < width and 0 <= y < height and pathing[int(x), int(y)]
