"""Scripts that play the enemy's side (`env_args.enemy=script:NAME`), compiled, each for many battles at once.

A script is a function with the decorator `compiled` and a line in SCRIPTS (envs/sc2/enemies.py):

    script(units, battles, side, targets, actions)

units [batch, unit]: records.UNIT as the script's side sees them, its own units first (`enemies.py`); battles: the rows
to act in; side: `Side`; targets [batch, own unit]: what it wants to remember, -1 at the start of an episode; actions
[batch, own unit]: what it writes, as an agent has actions: 1 stop, 2 to 5 a step north, south, east or west, 6 + k an
attack on opponent k, however far away. What it writes for the dead, and for medivacs, which heal, is not used.
"""

from typing import NamedTuple

import numpy as np

from envs.sc2.sim.features import N_ACTIONS_NO_ATTACK, SHOOT_RANGE, SIGHT_RANGE
from envs.sc2.sim.jit import compiled
from envs.sc2.sim.records import NO_UNIT, within
from envs.sc2.sim.targets import can_heal, has_energy, wants_healing

NO_OP, STOP, NORTH, SOUTH, EAST, WEST = range(N_ACTIONS_NO_ATTACK)
COOLING_LOOPS = 6.0  # a weapon that needs longer than this does not shoot in most of the next step
MELEE_RANGE = 1.0
SPREAD_GAP = 2.0  # edge to edge, nearly the radius of a baneling's explosion
FOLLOW_GAP = 2.0


class Side(NamedTuple):
    """What a script knows besides units."""

    n_own: int
    types: np.ndarray  # units.UNIT_TYPE of each `type`
    pathing: np.ndarray  # bool [x, y], where ground units may be
    move_amount: float


@compiled
def nearest(units, battles, side, targets, actions):
    """Each unit attacks the opponent that is nearest to it."""
    for b in battles:
        for i in range(side.n_own):
            actions[b, i] = attack(units[b], i, nearest_opponent(units[b], i, side), side)


@compiled
def weakest(units, battles, side, targets, actions):
    """Each unit attacks whoever has the least health and shield left within 6, or else the nearest opponent."""
    for b in battles:
        for i in range(side.n_own):
            u, best, least = units[b, i], NO_UNIT, np.inf
            for k in range(side.n_own, units.shape[1]):
                v = units[b, k]
                left = v.health + v.shield
                if can_attack(u, v, side) and distance(u, v) <= SHOOT_RANGE and left < least:
                    best, least = k, left
            if best == NO_UNIT:
                best = nearest_opponent(units[b], i, side)
            actions[b, i] = attack(units[b], i, best, side)


@compiled
def focus(units, battles, side, targets, actions):
    """All units attack the same opponent until it is dead: at first the one that is nearest to them all together."""
    for b in battles:
        if targets[b, 0] < 0 or units[b, targets[b, 0]].health <= 0:
            targets[b, 0] = _nearest_to_all(units[b], side)
        for i in range(side.n_own):
            target = targets[b, 0]
            if target < 0 or not can_attack(units[b, i], units[b, target], side):
                target = nearest_opponent(units[b], i, side)
            actions[b, i] = attack(units[b], i, target, side)


@compiled
def kite(units, battles, side, targets, actions):
    """As `nearest`, but units that shoot from afar step back while their weapon cools down and somebody is in range."""
    for b in battles:
        for i in range(side.n_own):
            u = units[b, i]
            target = nearest_opponent(units[b], i, side)
            actions[b, i] = attack(units[b], i, target, side)
            reach = side.types[u.type].range
            is_cooling = reach > MELEE_RANGE and u.cooldown > COOLING_LOOPS
            if target != NO_UNIT and is_cooling and within(u, units[b, target], reach):
                step = step_from(u, units[b, target], side)
                if step != STOP:
                    actions[b, i] = step


@compiled
def hold(units, battles, side, targets, actions):
    """Units stay where they are and attack the nearest opponent that is in the range of their weapon."""
    for b in battles:
        for i in range(side.n_own):
            target = nearest_opponent(units[b], i, side)
            if target != NO_UNIT and within(units[b, i], units[b, target], side.types[units[b, i].type].range):
                actions[b, i] = attack(units[b], i, target, side)
            else:
                actions[b, i] = STOP


@compiled
def spread(units, battles, side, targets, actions):
    """As `nearest`, but units that have no opponent within 9 go apart, until two lie between one and the next."""
    for b in battles:
        for i in range(side.n_own):
            u, target = units[b, i], nearest_opponent(units[b], i, side)
            actions[b, i] = attack(units[b], i, target, side)
            if target == NO_UNIT or distance(u, units[b, target]) < SIGHT_RANGE:
                continue
            friend = nearest_friend(units[b], i, side)
            if friend != NO_UNIT and within(u, units[b, friend], SPREAD_GAP):
                actions[b, i] = step_from(u, units[b, friend], side)


# ------------------------------------------------------------------------------------------------ what scripts are of


@compiled
def distance(u, v):
    return np.sqrt((v.x - u.x) ** 2 + (v.y - u.y) ** 2)


@compiled
def can_attack(u, v, side):
    """Whether v lives, and u has a weapon that reaches its plane."""
    return v.health > 0 and v.planes & side.types[u.type].reaches != 0


@compiled
def nearest_opponent(units, i, side):
    """The nearest one that unit i can attack, or NO_UNIT."""
    best, least = NO_UNIT, np.inf
    for k in range(side.n_own, len(units)):
        gap = distance(units[i], units[k])
        if can_attack(units[i], units[k], side) and gap < least:
            best, least = k, gap
    return best


@compiled
def nearest_friend(units, i, side):
    """The nearest living unit of its own side, medivacs not counted, or NO_UNIT."""
    best, least = NO_UNIT, np.inf
    for k in range(side.n_own):
        gap = distance(units[i], units[k])
        if k != i and units[k].health > 0 and not units[k].heals and gap < least:
            best, least = k, gap
    return best


@compiled
def attack(units, i, target, side):
    """The action of an attack on unit `target`; of NO_UNIT: stop."""
    return STOP if target == NO_UNIT else N_ACTIONS_NO_ATTACK + target - side.n_own


@compiled
def step_from(u, v, side):
    """The step, of those that are free, that leads away from v the most; STOP where none does."""
    return _best_step(u, u.x - v.x, u.y - v.y, side)


@compiled
def step_to(u, v, side):
    """The step, of those that are free, that leads towards v the most; STOP where none does."""
    return _best_step(u, v.x - u.x, v.y - u.y, side)


@compiled
def _best_step(u, dx, dy, side):
    best, most = STOP, 0.0
    for action in range(NORTH, WEST + 1):
        x, y = int(action == EAST) - int(action == WEST), int(action == NORTH) - int(action == SOUTH)
        if x * dx + y * dy > most and _is_free(u.x + x * side.move_amount / 2, u.y + y * side.move_amount / 2, side):
            best, most = action, x * dx + y * dy
    return best


@compiled
def _is_free(x, y, side):
    is_inside = 0 <= x < side.pathing.shape[0] and 0 <= y < side.pathing.shape[1]
    return is_inside and side.pathing[int(x), int(y)]


@compiled
def _nearest_to_all(units, side):
    best, least = NO_UNIT, np.inf
    for k in range(side.n_own, len(units)):
        gaps = 0.0
        for i in range(side.n_own):
            if units[i].health > 0:
                gaps += distance(units[i], units[k])
        if units[k].health > 0 and gaps < least:
            best, least = k, gaps
    return best


@compiled
def tend(units, battles, side, actions):
    """Writes the actions that no script decides on: no-op of the dead; medivacs heal the nearest wounded or follow."""
    for b in battles:
        for i in range(side.n_own):
            u = units[b, i]
            if u.health <= 0:
                actions[b, i] = NO_OP
            elif u.heals:
                actions[b, i] = _support(units[b], i, side)


@compiled
def _support(units, i, side):
    u, patient, least = units[i], NO_UNIT, np.inf
    if has_energy(u, side.types):
        for k in range(side.n_own):
            v = units[k]
            if k != i and wants_healing(v) and can_heal(v, side.types) and distance(u, v) < least:
                patient, least = k, distance(u, v)
    if patient != NO_UNIT:
        return N_ACTIONS_NO_ATTACK + patient
    friend = nearest_friend(units, i, side)
    if friend == NO_UNIT or within(u, units[friend], FOLLOW_GAP):
        return STOP
    return step_to(u, units[friend], side)
