"""Whom units attack or heal that choose for themselves: the enemies. Agents' units never do."""

import numpy as np

from envs.sc2.sim.jit import compiled, inlined
from envs.sc2.sim.records import ATTACK_MOVE, HUNT, IDLE, NO_UNIT, within
from envs.sc2.sim.units import BEAMS, BIOLOGICAL

CALL_FOR_HELP_RANGE = 3.0
CALL_FOR_HELP_LOOPS = 32
LEASH = 21.0
MELEE = 1.0  # weapon ranges below it are a melee unit's
NEVER = -1
MAX_APPROACH = 1.0  # two units never come nearer to each other by more than this in a loop
NO_LIMIT = 1e9


@inlined
def choose_target(units, i, loop, types, battle):
    """Keeps a target within weapon range unless another threatens this unit and it does not; else looks for the best
    one in scan range, at once where the last one is dead or somebody shot at it.

    Whoever shot from out of scan range, and whoever gets out of weapon range while it threatens the unit, is chased.
    """
    u = units[i]
    unit_type = types[u.type]
    # 32 bits: dividing 64 takes the processor longer
    scans = np.uint32(loop + u.scan_phase) % np.uint32(battle.scan_period_loops) == 0
    if u.target != NO_UNIT:
        v = units[u.target]
        if v.health <= 0:
            u.target = NO_UNIT
            scans = True
        elif u.order == HUNT or within(u, v, unit_type.range):
            u.chases = u.target if _threatens(v, i) else NO_UNIT
            if scans and u.order != HUNT and u.chases == NO_UNIT:
                _turn_on_attacker(units, i, unit_type, battle)
            return
    if u.order == HUNT:
        u.target = best_target(units, i, unit_type, NO_LIMIT, battle)
        return
    is_alerted = NEVER < u.alert_loop < loop
    if u.scan_wait > 0:
        u.scan_wait -= 1
        u.target = NO_UNIT
    elif scans or (is_alerted and u.target == NO_UNIT):
        u.target = best_target(units, i, unit_type, unit_type.scan_range, battle)
    if u.target != NO_UNIT and u.target != u.chases and not _goes_on_chasing(units, i, unit_type):
        u.chases = NO_UNIT
    if is_alerted:
        u.alert_loop = NEVER
    if u.chases != NO_UNIT and u.alert_loop == NEVER:
        strayed = (u.x - u.home_x) ** 2 + (u.y - u.home_y) ** 2
        if units[u.chases].health > 0 and (u.order == ATTACK_MOVE or strayed <= LEASH**2):
            u.target = u.chases
        else:
            u.chases = NO_UNIT
            if u.order == IDLE:
                u.order = ATTACK_MOVE
                u.goal_x, u.goal_y = u.home_x, u.home_y


@inlined
def _goes_on_chasing(units, i, unit_type):
    """Whether it leaves the target that it has found aside and chases on: as long as whoever it chases is out of its
    scan range, and after that until it can shoot at somebody without a step, in melee at somebody who attacks it."""
    u = units[i]
    if u.chases == NO_UNIT or units[u.chases].health <= 0:
        return False
    if not within(u, units[u.chases], unit_type.scan_range):
        return True
    found = units[u.target]
    return not within(u, found, unit_type.range) or (unit_type.range < MELEE and not _threatens(found, i))


@inlined
def _threatens(v, i):
    """Whether unit i prefers v as a target: it attacks i, or is a medivac, always a threat in the game's data."""
    return v.target == i or v.heals == 1


@inlined
def choose_in_range(units, i, types, battle):
    """The target of an agent's unit that fires by itself but goes after nobody."""
    u = units[i]
    reach = types[u.type].range
    if u.target == NO_UNIT or units[u.target].health <= 0 or not within(u, units[u.target], reach):
        u.target = best_target(units, i, types[u.type], reach, battle)
        u.scan_wait = 0


@compiled
def _turn_on_attacker(units, i, unit_type, battle):
    """Takes the nearest of those in weapon range that threaten this unit, if there is one."""
    other = best_target(units, i, unit_type, unit_type.range, battle)
    units[i].scan_wait = 0  # it counts from a look round the whole scan range
    if other != NO_UNIT and _threatens(units[other], i):
        units[i].target = other


@compiled
def best_target(units, i, unit_type, scan_range, battle):
    """The nearest opponent in scan range among those that threaten this unit, else among all.

    A colossus takes whoever is nearest to its last target instead.
    """
    u = units[i]
    first, last = (battle.n_agents, len(units)) if u.team == 0 else (0, battle.n_agents)
    previous = u.target if unit_type.weapon == BEAMS else NO_UNIT
    best, best_distance, best_threatens, nearest = NO_UNIT, np.inf, False, np.inf
    for k in range(first, last):
        v = units[k]
        if v.health > 0 and v.planes & unit_type.reaches:
            gap = np.sqrt((v.x - u.x) ** 2 + (v.y - u.y) ** 2) - v.radius - u.radius
            nearest = min(nearest, gap)
            if gap <= scan_range:
                distance = gap
                if previous != NO_UNIT:
                    distance = np.sqrt((v.x - units[previous].x) ** 2 + (v.y - units[previous].y) ** 2)
                threatens = _threatens(v, i)
                if (threatens and not best_threatens) or (threatens == best_threatens and distance < best_distance):
                    best, best_distance, best_threatens = k, distance, threatens
    if best == NO_UNIT:
        u.scan_wait = int(min((nearest - scan_range) / MAX_APPROACH, 1e6))
    return best


@compiled
def alert(units, i, attacker, loop, types):
    """A unit that is shot at and does not fight looks for a target in the next loop, chases the attacker if he is out
    of its scan range, and calls its friends nearby that have no target."""
    u = units[i]
    if u.target == NO_UNIT or not (within(u, units[u.target], types[u.type].range) or _threatens(units[u.target], i)):
        _respond(units, i, attacker, loop, types)
    if u.help_wait > loop:
        return
    u.help_wait = loop + CALL_FOR_HELP_LOOPS
    for k in range(len(units)):
        v = units[k]
        is_near = (v.x - u.x) ** 2 + (v.y - u.y) ** 2 <= CALL_FOR_HELP_RANGE**2
        if v.team == u.team and v.health > 0 and v.target == NO_UNIT and is_near:
            _respond(units, k, attacker, loop, types)


@inlined
def _respond(units, i, attacker, loop, types):
    u, v = units[i], units[attacker]
    if u.acquires and u.order != HUNT and u.chases == NO_UNIT and v.planes & types[u.type].reaches:
        u.target, u.alert_loop = NO_UNIT, loop
        if not within(u, v, types[u.type].scan_range):
            u.chases = attacker


# ------------------------------------------------------------------------------------------------ medivacs


@inlined
def wants_healing(v):
    return v.health > 0 and v.health < v.health_max


@inlined
def has_energy(u, types):
    """For one more loop of healing: what comes in during a loop must not keep it going for ever."""
    return u.energy >= types[u.type].heal * types[u.type].heal_cost


@inlined
def choose_patient(units, i, types):
    """Stays with a patient until it is well or the energy is spent; an enemy medivac then looks for the next one, an
    agent's is idle."""
    u = units[i]
    if u.target != NO_UNIT and (not wants_healing(units[u.target]) or not has_energy(u, types)):
        u.target = NO_UNIT
        if not u.acquires:
            u.order = IDLE
    if u.acquires and u.target == NO_UNIT and u.energy >= types[u.type].heal_min_energy:
        u.target = _neediest(units, i, types)


@compiled
def _neediest(units, i, types):
    """The wounded friend in scan range that has the least share of its health left; the nearest of equals."""
    u = units[i]
    best, best_share, best_square = NO_UNIT, 1.0, np.inf
    for k in range(len(units)):
        v = units[k]
        if v.team != u.team or k == i or not can_heal(v, types) or not wants_healing(v):
            continue
        if within(u, v, types[u.type].heal_scan_range):
            share = v.health / v.health_max
            square = (v.x - u.x) ** 2 + (v.y - u.y) ** 2
            if share < best_share or (share == best_share and square < best_square):
                best, best_share, best_square = k, share, square
    return best


@inlined
def can_heal(v, types):
    return types[v.type].attributes & BIOLOGICAL != 0
